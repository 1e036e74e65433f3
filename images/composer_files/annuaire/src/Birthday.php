<?php

declare(strict_types=1);

namespace Annuaire;

use DateTimeImmutable;

/** The day on which somebody is a year older. */
final class Birthday
{
    private function __construct(public readonly DateTimeImmutable $date, public readonly int $age)
    {
    }

    /** Returns the first birthday on or after a day; `null` for whoever is not born yet or is born that day. */
    public static function next(DateTimeImmutable $born, DateTimeImmutable $day): ?self
    {
        $day = $day->setTime(0, 0);
        $birth = (int) $born->format('Y');
        for ($year = max($birth + 1, (int) $day->format('Y')); $year <= (int) $day->format('Y') + 1; $year++) {
            // Whoever was born on 29 February celebrates on the 28th where there is none.
            $leap = checkdate(2, 29, $year);
            $text = $born->format('m-d') === '02-29' && !$leap ? "$year-02-28" : $year . $born->format('-m-d');
            $date = new DateTimeImmutable($text, $day->getTimezone());
            if ($date >= $day) {
                return new self($date, $year - $birth);
            }
        }
        return null;
    }
}
