<?php

declare(strict_types=1);

namespace Annuaire;

use Civiparoisse\Migrations\Migrator;
use PDO;

/** The database as an installation needs it: made once, brought up to date, and asked whether it is whole. */
final class Installation
{
    /** Written last: what comes before it is done again as long as it is missing. */
    private const MARKER = 'installed_at';

    public function __construct(private readonly Settings $settings)
    {
    }

    /**
     * Creates what is missing, and changes nothing that is there but the parish's name. Safe to be killed at any point, and to be run twice.
     *
     * @param callable(string): void $say
     */
    public function install(callable $say, int $wait): void
    {
        $this->createDatabase(Database::administrator($this->settings, $wait));
        $database = Database::application($this->settings);
        $this->migrate($database, $say);
        // What the settings of the stack say counts, also when they change later.
        $name = mb_substr(trim((string) getenv('PARISH_NAME')) ?: 'Paroisse', 0, 200);
        $database->prepare("REPLACE INTO settings VALUES ('parish_name', ?)")->execute([$name]);
        $setting = $database->prepare('INSERT IGNORE INTO settings VALUES (?, ?)');
        // Made here and never shown: what the pages sign their forms with.
        $setting->execute(['form_key', bin2hex(random_bytes(32))]);
        if ($this->marker($database) !== null) {
            $say('already installed: nothing to do');
            return;
        }
        $this->firstAdministrator($database, $say);
        $setting->execute([self::MARKER, gmdate('Y-m-d H:i:s')]);
        $say('installed');
    }

    /** @param callable(string): void $say */
    public function migrate(PDO $database, callable $say): void
    {
        $done = $this->migrator($database)->migrate();
        foreach ($done as $name) {
            $say("applied the migration $name");
        }
        if ($done === []) {
            $say('the database is up to date');
        }
    }

    /** Returns why the application cannot serve; `null` where it can. */
    public function ailment(PDO $database): ?string
    {
        if ($this->marker($database) === null) {
            return 'the installation is not finished';
        }
        $pending = $this->migrator($database)->pending();
        return $pending === [] ? null : 'migrations are missing: ' . implode(', ', array_column($pending, 'name'));
    }

    private function migrator(PDO $database): Migrator
    {
        return new Migrator($database, dirname(__DIR__) . '/migrations');
    }

    private function createDatabase(PDO $admin): void
    {
        ['database' => $name, 'user' => $user] = ['database' => $this->settings->database, 'user' => $this->settings->user];
        $password = $admin->quote($this->settings->secret('db-app'));
        // Accents and case do not count when people search or sort.
        $admin->exec("CREATE DATABASE IF NOT EXISTS `$name` CHARACTER SET utf8mb4 COLLATE utf8mb4_uca1400_ai_ci");
        $admin->exec("CREATE USER IF NOT EXISTS '$user'@'%' IDENTIFIED BY $password REQUIRE SSL");
        $admin->exec("ALTER USER '$user'@'%' IDENTIFIED BY $password REQUIRE SSL");
        $admin->exec(
            "GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, DROP, INDEX, REFERENCES, LOCK TABLES, SHOW VIEW, TRIGGER ON `$name`.* TO '$user'@'%'",
        );
    }

    /** @param callable(string): void $say */
    private function firstAdministrator(PDO $database, callable $say): void
    {
        $users = new Users($database);
        if ($users->administrators() > 0) {
            return;
        }
        $login = (string) (getenv('ADMIN_NAME') ?: 'admin');
        $users->add($login, $this->settings->secret('site-admin'), 'administrator', (string) getenv('ADMIN_MAIL'));
        $say("made the first administrator `" . Users::canonical($login) . '`');
    }

    private function marker(PDO $database): ?string
    {
        $marker = $database->prepare('SELECT value FROM settings WHERE name = ?');
        $marker->execute([self::MARKER]);
        return $marker->fetchColumn() ?: null;
    }
}
