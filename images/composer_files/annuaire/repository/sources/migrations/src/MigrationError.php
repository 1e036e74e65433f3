<?php

declare(strict_types=1);

namespace Civiparoisse\Migrations;

/** A database and a folder of migrations that do not fit together. */
final class MigrationError extends \RuntimeException
{
    public function __construct(string $message, public readonly string $hint)
    {
        parent::__construct($message);
    }
}
