<?php

declare(strict_types=1);

namespace Annuaire;

use PDO;
use PDOException;

/** Connections to MariaDB: over TLS, with the authority checked, or not at all. */
final class Database
{
    /** Seconds between two attempts while the database starts. */
    private const PAUSE = 1;

    /** Connects as the application's own user. */
    public static function application(Settings $settings, int $wait = 0): PDO
    {
        return self::connect($settings, $settings->user, $settings->secret('db-app'), $settings->database, $wait);
    }

    /** Connects as the administrator of the database, who belongs to the job `init` alone. */
    public static function administrator(Settings $settings, int $wait = 0): PDO
    {
        return self::connect($settings, 'admin', $settings->secret('db-admin'), null, $wait);
    }

    private static function connect(Settings $settings, string $user, #[\SensitiveParameter] string $password, ?string $name, int $wait): PDO
    {
        if (!is_readable($settings->authority())) {
            throw new Trouble("`{$settings->authority()}` cannot be read", 'the job `selfkeys` makes it; is the folder of keys mounted?');
        }
        $source = "mysql:host=$settings->host;port=$settings->port;charset=utf8mb4" . ($name === null ? '' : ";dbname=$name");
        $options = [
            PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION,
            PDO::ATTR_DEFAULT_FETCH_MODE => PDO::FETCH_ASSOC,
            PDO::ATTR_EMULATE_PREPARES => false,
            PDO::ATTR_TIMEOUT => 5,
            PDO::MYSQL_ATTR_SSL_CA => $settings->authority(),
            PDO::MYSQL_ATTR_SSL_VERIFY_SERVER_CERT => true,
            // One statement at a time: whatever text gets in, it cannot begin a second one.
            PDO::MYSQL_ATTR_MULTI_STATEMENTS => false,
            PDO::MYSQL_ATTR_INIT_COMMAND => "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,ERROR_FOR_DIVISION_BY_ZERO'",
        ];
        $end = time() + $wait;
        while (true) {
            try {
                // Its own warnings repeat what the exception says.
                return @new PDO($source, $user, $password, $options);
            } catch (PDOException $error) {
                if (time() >= $end) {
                    $hint = 'is the service `db` healthy, and was it started again after its keys changed?';
                    throw new Trouble("the database at `$settings->host` does not admit `$user`: {$error->getMessage()}", $hint);
                }
                sleep(self::PAUSE);
            }
        }
    }
}
