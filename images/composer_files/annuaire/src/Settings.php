<?php

declare(strict_types=1);

namespace Annuaire;

/** What the container says: where the database is, and the folder of keys. */
final class Settings
{
    private function __construct(
        public readonly string $host,
        public readonly int $port,
        public readonly string $database,
        public readonly string $user,
        private readonly string $keys,
    ) {
    }

    public static function read(): self
    {
        $say = fn (string $name, string $default): string => (string) (getenv($name) ?: $default);
        $database = $say('DB_NAME', 'annuaire');
        $user = $say('DB_USER', 'annuaire');
        // Both become part of statements that take no parameters there.
        foreach (['DB_NAME' => $database, 'DB_USER' => $user] as $name => $value) {
            if (preg_match('/\A[a-z][a-z0-9_]{0,31}\z/', $value) !== 1) {
                throw new Trouble("$name is `$value`", 'use lowercase letters, digits and `_`');
            }
        }
        return new self($say('DB_HOST', 'db'), (int) $say('DB_PORT', '3306'), $database, $user, $say('KEYS', '/keys'));
    }

    public function authority(): string
    {
        return "$this->keys/database-ca.crt";
    }

    /** Returns a password that was made on this machine. */
    public function secret(string $name): string
    {
        $secret = @file_get_contents("$this->keys/$name");
        if ($secret === false || trim($secret) === '') {
            throw new Trouble("`$this->keys/$name` cannot be read", 'the job `selfkeys` makes it; is the folder of keys mounted?');
        }
        return trim($secret);
    }
}
