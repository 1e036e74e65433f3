<?php

declare(strict_types=1);

namespace Annuaire;

use DateTimeImmutable;
use IntlDateFormatter;

/** Dates and numbers as people read them. */
final class French
{
    public static function day(?string $date, string $pattern = 'd MMMM y'): string
    {
        if ($date === null || $date === '') {
            return '';
        }
        $format = new IntlDateFormatter('fr_FR', IntlDateFormatter::NONE, IntlDateFormatter::NONE, date_default_timezone_get(), null, $pattern);
        // “1er mai”, but “2 mai”.
        return preg_replace('/\b1 (?=\p{L})/u', '1er ', (string) $format->format(new DateTimeImmutable($date))) ?? '';
    }

    public static function count(int $number, string $one, string $many): string
    {
        return $number < 2 ? "$number $one" : "$number $many";
    }
}
