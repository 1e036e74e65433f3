<?php

declare(strict_types=1);

namespace Annuaire;

/** Something that the person who runs the application can mend. */
final class Trouble extends \RuntimeException
{
    public function __construct(string $message, public readonly string $hint)
    {
        parent::__construct($message);
    }
}
