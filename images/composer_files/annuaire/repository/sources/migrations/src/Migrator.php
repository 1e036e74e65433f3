<?php

declare(strict_types=1);

namespace Civiparoisse\Migrations;

use PDO;

/**
 * Applies the files `NUMBER-NAME.sql` of a folder in their order, each once, and keeps in the table `schema_version` what was applied.
 *
 * MariaDB ends a transaction at each change of a table, so a file that was interrupted is applied again from its beginning: its
 * statements are written so that a second time does no harm (`IF NOT EXISTS` and the like).
 */
final class Migrator
{
    private const LOCK = 'civiparoisse-migrations';

    public function __construct(private readonly PDO $database, private readonly string $folder)
    {
    }

    /**
     * Applies what is missing; returns its names.
     *
     * @return list<string>
     */
    public function migrate(): array
    {
        // Two that start at once: the second waits, and then has nothing to do.
        $lock = $this->database->prepare('SELECT GET_LOCK(?, 60)');
        $lock->execute([self::LOCK]);
        if ((int) $lock->fetchColumn() !== 1) {
            throw new MigrationError('another migration has been running for a minute', 'wait for its end, then try again');
        }
        try {
            $this->database->exec(
                'CREATE TABLE IF NOT EXISTS schema_version (number INT UNSIGNED PRIMARY KEY, name VARCHAR(100) NOT NULL,
                 checksum CHAR(64) NOT NULL, applied_at DATETIME NOT NULL)',
            );
            $done = [];
            foreach ($this->pending() as $number => $file) {
                foreach (self::statements($file['text']) as $statement) {
                    $this->database->exec($statement);
                }
                $record = $this->database->prepare('INSERT INTO schema_version VALUES (?, ?, ?, UTC_TIMESTAMP())');
                $record->execute([$number, $file['name'], hash('sha256', $file['text'])]);
                $done[] = $file['name'];
            }
            return $done;
        } finally {
            $this->database->prepare('SELECT RELEASE_LOCK(?)')->execute([self::LOCK]);
        }
    }

    /**
     * Returns what is still to be applied, by number.
     *
     * @return array<int, array{name: string, text: string}>
     */
    public function pending(): array
    {
        $applied = [];
        foreach ($this->database->query('SELECT number, name, checksum FROM schema_version') as $row) {
            $applied[(int) $row['number']] = $row;
        }
        $files = $this->files();
        foreach ($applied as $number => $row) {
            if (!isset($files[$number])) {
                throw new MigrationError(
                    "the database has the migration `{$row['name']}`, which this version does not know",
                    'the database belongs to a newer version: start that one',
                );
            }
            if (hash('sha256', $files[$number]['text']) !== $row['checksum']) {
                throw new MigrationError("the migration `{$row['name']}` was altered after it was applied", 'add a new migration instead');
            }
        }
        return array_diff_key($files, $applied);
    }

    /** @return array<int, array{name: string, text: string}> */
    private function files(): array
    {
        $files = [];
        foreach (glob("$this->folder/*.sql") ?: [] as $path) {
            if (preg_match('~/(\d{4})-[a-z0-9-]+\.sql\z~', $path, $found) === 1) {
                $files[(int) $found[1]] = ['name' => basename($path, '.sql'), 'text' => (string) file_get_contents($path)];
            }
        }
        ksort($files);
        return $files;
    }

    /** @return list<string> */
    private static function statements(string $text): array
    {
        $text = preg_replace('/^--.*$/m', '', $text) ?? '';
        return array_values(array_filter(array_map(trim(...), preg_split('/;\s*$/m', $text) ?: [])));
    }
}
