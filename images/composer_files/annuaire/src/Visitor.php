<?php

declare(strict_types=1);

namespace Annuaire;

/** A person who is logged in. */
final class Visitor
{
    public function __construct(public readonly string $login, public readonly string $role)
    {
    }

    public function mayEdit(): bool
    {
        return $this->role === 'editor' || $this->role === 'administrator';
    }

    public function mayAdminister(): bool
    {
        return $this->role === 'administrator';
    }
}
