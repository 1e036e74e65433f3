<?php

declare(strict_types=1);

namespace Annuaire;

/** Something that a person typed and that cannot be taken; the message is for that person. */
final class Invalid extends \RuntimeException
{
}
