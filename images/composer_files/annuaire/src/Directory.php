<?php

declare(strict_types=1);

namespace Annuaire;

use DateTimeImmutable;
use PDO;

/** The people of the parish, their households and groups. */
final class Directory
{
    public const PAGE = 25;

    /** The collation knows that é is an e, but not that œ is two letters. */
    private const LIGATURES = ['œ' => 'oe', 'Œ' => 'oe', 'æ' => 'ae', 'Æ' => 'ae', '’' => "'"];

    public function __construct(private readonly PDO $database)
    {
    }

    public function parish(): string
    {
        return (string) $this->database->query("SELECT value FROM settings WHERE name = 'parish_name'")->fetchColumn();
    }

    /**
     * Finds people whose names, addresses, household or groups contain every word that is asked for; all of them where nothing is asked.
     *
     * @return array{total: int, people: list<array<string, mixed>>}
     */
    public function search(string $words, int $page): array
    {
        $where = [];
        $values = [];
        foreach (array_slice(preg_split('/\s+/u', $words, -1, PREG_SPLIT_NO_EMPTY) ?: [], 0, 8) as $word) {
            $person = self::plain("CONCAT_WS(' ', p.first_name, p.last_name, p.mail, h.name, h.street, h.town)");
            $team = self::plain('t.name');
            $where[] = "($person LIKE ? OR EXISTS (SELECT 1 FROM memberships m JOIN teams t ON t.id = m.team WHERE m.person = p.id AND $team LIKE ?))";
            // What LIKE would read as a joker is a letter like any other.
            $pattern = '%' . addcslashes(strtr($word, self::LIGATURES), '%_\\') . '%';
            array_push($values, $pattern, $pattern);
        }
        $from = 'FROM people p LEFT JOIN households h ON h.id = p.household' . ($where === [] ? '' : ' WHERE ' . implode(' AND ', $where));
        $count = $this->database->prepare("SELECT COUNT(*) $from");
        $count->execute($values);
        $offset = max(0, min($page - 1, 100_000)) * self::PAGE;
        $found = $this->database->prepare(
            "SELECT p.*, h.name AS household_name, h.town $from ORDER BY p.last_name, p.first_name, p.id LIMIT " . self::PAGE . " OFFSET $offset",
        );
        $found->execute($values);
        return ['total' => (int) $count->fetchColumn(), 'people' => $found->fetchAll()];
    }

    /** Returns an expression of SQL for a text with its ligatures written out. */
    private static function plain(string $expression): string
    {
        foreach (self::LIGATURES as $from => $to) {
            $expression = "REPLACE($expression, '$from', '" . ($to === "'" ? "''" : $to) . "')";
        }
        return $expression;
    }

    /** @return array<string, mixed>|null */
    public function person(int $id): ?array
    {
        $person = $this->row(
            'SELECT p.*, h.name AS household_name, h.street, h.postcode, h.town FROM people p
             LEFT JOIN households h ON h.id = p.household WHERE p.id = ?',
            $id,
        );
        return $person === null ? null : $person + ['teams' => $this->teamsOf($id)];
    }

    /** @return array<int, string> Names by number. */
    private function teamsOf(int $person): array
    {
        $teams = $this->database->prepare('SELECT t.id, t.name FROM teams t JOIN memberships m ON m.team = t.id WHERE m.person = ? ORDER BY t.name');
        $teams->execute([$person]);
        return $teams->fetchAll(PDO::FETCH_KEY_PAIR);
    }

    /**
     * Writes a person down; returns the number. Only the fields that are named here are taken from the form.
     *
     * @param array{first_name: string, last_name: string, born_on: string, phone: string, mail: string, household: int} $person
     * @param list<int> $teams
     */
    public function savePerson(?int $id, array $person, array $teams): int
    {
        if ($person['first_name'] === '' || $person['last_name'] === '') {
            throw new Invalid('Il faut un prénom et un nom.');
        }
        if ($person['mail'] !== '' && filter_var($person['mail'], FILTER_VALIDATE_EMAIL) === false) {
            throw new Invalid("L'adresse électronique n'en est pas une.");
        }
        if (preg_match('/\A[0-9+(). \/-]*\z/', $person['phone']) !== 1) {
            throw new Invalid('Le numéro de téléphone a des chiffres, des espaces et « + ( ) . - / ».');
        }
        $values = [
            $person['household'] ?: null, $person['first_name'], $person['last_name'], self::day($person['born_on']), $person['phone'], $person['mail'],
        ];
        $this->database->beginTransaction();
        try {
            if ($person['household'] !== 0 && $this->household($person['household']) === null) {
                throw new Invalid("Ce foyer n'existe plus.");
            }
            if ($id === null) {
                $this->database
                    ->prepare('INSERT INTO people (household, first_name, last_name, born_on, phone, mail) VALUES (?, ?, ?, ?, ?, ?)')
                    ->execute($values);
                $id = (int) $this->database->lastInsertId();
            } else {
                $this->database
                    ->prepare('UPDATE people SET household = ?, first_name = ?, last_name = ?, born_on = ?, phone = ?, mail = ? WHERE id = ?')
                    ->execute([...$values, $id]);
            }
            $this->database->prepare('DELETE FROM memberships WHERE person = ?')->execute([$id]);
            // A group that was removed meanwhile is left out.
            $join = $this->database->prepare('INSERT INTO memberships SELECT ?, id FROM teams WHERE id = ?');
            foreach ($teams as $team) {
                $join->execute([$id, $team]);
            }
            $this->database->commit();
        } catch (\Throwable $error) {
            $this->database->rollBack();
            throw $error;
        }
        return $id;
    }

    public function removePerson(int $id): void
    {
        $this->database->prepare('DELETE FROM people WHERE id = ?')->execute([$id]);
    }

    /** @return list<array<string, mixed>> */
    public function households(): array
    {
        return $this->database->query(
            'SELECT h.*, COUNT(p.id) AS people FROM households h LEFT JOIN people p ON p.household = h.id GROUP BY h.id ORDER BY h.name, h.id LIMIT 1000',
        )->fetchAll();
    }

    /** @return array<string, mixed>|null */
    public function household(int $id): ?array
    {
        return $this->row('SELECT * FROM households WHERE id = ?', $id);
    }

    /** @param array{name: string, street: string, postcode: string, town: string} $household */
    public function saveHousehold(?int $id, array $household): void
    {
        if ($household['name'] === '') {
            throw new Invalid('Il faut un nom au foyer.');
        }
        $values = [$household['name'], $household['street'], $household['postcode'], $household['town']];
        if ($id === null) {
            $this->database->prepare('INSERT INTO households (name, street, postcode, town) VALUES (?, ?, ?, ?)')->execute($values);
        } else {
            $this->database->prepare('UPDATE households SET name = ?, street = ?, postcode = ?, town = ? WHERE id = ?')->execute([...$values, $id]);
        }
    }

    public function removeHousehold(int $id): void
    {
        $this->database->prepare('DELETE FROM households WHERE id = ?')->execute([$id]);
    }

    /** @return list<array<string, mixed>> */
    public function teams(): array
    {
        return $this->database->query(
            'SELECT t.id, t.name, COUNT(m.person) AS people FROM teams t LEFT JOIN memberships m ON m.team = t.id GROUP BY t.id ORDER BY t.name LIMIT 1000',
        )->fetchAll();
    }

    public function addTeam(string $name): void
    {
        if ($name === '') {
            throw new Invalid('Il faut un nom au groupe.');
        }
        $insert = $this->database->prepare('INSERT IGNORE INTO teams (name) VALUES (?)');
        $insert->execute([$name]);
        if ($insert->rowCount() === 0) {
            throw new Invalid('Ce groupe existe déjà.');
        }
    }

    public function removeTeam(int $id): void
    {
        $this->database->prepare('DELETE FROM teams WHERE id = ?')->execute([$id]);
    }

    /**
     * Writes down whose birthday falls on `$day` or one of the six days after it, in place of what an earlier run found; returns them.
     *
     * @return list<array{id: int, first_name: string, last_name: string, falls_on: string, age: int}>
     */
    public function noteBirthdays(DateTimeImmutable $day): array
    {
        $found = [];
        foreach ($this->database->query('SELECT id, first_name, last_name, born_on FROM people WHERE born_on IS NOT NULL') as $person) {
            $next = Birthday::next(new DateTimeImmutable($person['born_on']), $day);
            if ($next !== null && $next->date < $day->modify('+7 days')) {
                $found[] = [
                    'id' => (int) $person['id'],
                    'first_name' => $person['first_name'],
                    'last_name' => $person['last_name'],
                    'falls_on' => $next->date->format('Y-m-d'),
                    'age' => $next->age,
                ];
            }
        }
        usort($found, fn ($one, $other) => [$one['falls_on'], $one['last_name'], $one['id']] <=> [$other['falls_on'], $other['last_name'], $other['id']]);
        $this->database->beginTransaction();
        $this->database->exec('DELETE FROM birthdays');
        // Whoever was removed meanwhile is left out.
        $insert = $this->database->prepare('INSERT INTO birthdays SELECT id, ?, ? FROM people WHERE id = ?');
        foreach ($found as $birthday) {
            $insert->execute([$birthday['falls_on'], $birthday['age'], $birthday['id']]);
        }
        $this->database->commit();
        return $found;
    }

    /** @return list<array<string, mixed>> */
    public function birthdays(): array
    {
        return $this->database->query(
            'SELECT p.id, p.first_name, p.last_name, b.falls_on, b.age FROM birthdays b JOIN people p ON p.id = b.person
             WHERE b.falls_on >= CURRENT_DATE ORDER BY b.falls_on, p.last_name, p.id LIMIT 200',
        )->fetchAll();
    }

    /** @return array<string, mixed>|null */
    private function row(string $statement, int $id): ?array
    {
        $row = $this->database->prepare($statement);
        $row->execute([$id]);
        return $row->fetch() ?: null;
    }

    /** Returns a day as the database has it; `null` where none is given. */
    private static function day(string $text): ?string
    {
        if ($text === '') {
            return null;
        }
        $day = DateTimeImmutable::createFromFormat('!Y-m-d', $text);
        // PHP takes 31 February for 3 March.
        if ($day === false || $day->format('Y-m-d') !== $text) {
            throw new Invalid('La date de naissance n’existe pas.');
        }
        if ($day > new DateTimeImmutable('today') || $day->format('Y') < 1890) {
            throw new Invalid('La date de naissance est dans le passé, après 1890.');
        }
        return $text;
    }
}
