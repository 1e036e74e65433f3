<?php

declare(strict_types=1);

namespace Annuaire;

use PDO;

/** The accounts: who may log in, and what they may do. */
final class Users
{
    public const ROLES = ['reader' => 'Lecture', 'editor' => 'Rédaction', 'administrator' => 'Administration'];

    private const SHORTEST = 10;

    public function __construct(private readonly PDO $database)
    {
    }

    /** Returns a login as it is stored. */
    public static function canonical(string $login): string
    {
        return strtolower(trim($login));
    }

    public function add(string $login, #[\SensitiveParameter] string $password, string $role, string $mail = ''): void
    {
        $login = self::canonical($login);
        if (preg_match('/\A[a-z0-9][a-z0-9._@-]{1,59}\z/', $login) !== 1) {
            throw new Invalid("L'identifiant a de 2 à 60 caractères : lettres sans accent, chiffres, « . », « _ », « @ », « - ».");
        }
        self::checkRole($role);
        if ($mail !== '' && filter_var($mail, FILTER_VALIDATE_EMAIL) === false) {
            throw new Invalid("L'adresse électronique n'en est pas une.");
        }
        $insert = $this->database->prepare('INSERT IGNORE INTO users VALUES (?, ?, ?, ?, UTC_TIMESTAMP())');
        $insert->execute([$login, self::hash($password), $role, mb_substr($mail, 0, 200)]);
        if ($insert->rowCount() === 0) {
            throw new Invalid('Cet identifiant existe déjà.');
        }
    }

    public function setPassword(string $login, #[\SensitiveParameter] string $password): void
    {
        $this->change('UPDATE users SET hash = ? WHERE login = ?', self::hash($password), $login);
        // Whoever was shut out for guessing, and now has a new password, is let in at once.
        $this->database->exec('DELETE FROM attempts');
    }

    /** Changes somebody's own password, which takes the old one. */
    public function changeOwn(string $login, #[\SensitiveParameter] string $old, #[\SensitiveParameter] string $new): void
    {
        $user = $this->find($login);
        if ($user === null || !password_verify($old, $user['hash'])) {
            throw new Invalid('Le mot de passe actuel n’est pas celui-là.');
        }
        $this->change('UPDATE users SET hash = ? WHERE login = ?', self::hash($new), $login);
    }

    public function setRole(string $login, string $role): void
    {
        self::checkRole($role);
        $this->keepOneAdministrator($login, fn () => $this->change('UPDATE users SET role = ? WHERE login = ?', $role, $login));
    }

    public function remove(string $login): void
    {
        $this->keepOneAdministrator(
            $login,
            fn () => $this->database->prepare('DELETE FROM users WHERE login = ?')->execute([self::canonical($login)]),
        );
    }

    /** @return list<array{login: string, role: string, mail: string}> */
    public function all(): array
    {
        return $this->database->query('SELECT login, role, mail FROM users ORDER BY login')->fetchAll();
    }

    /** @return array{login: string, hash: string, role: string}|null */
    public function find(string $login): ?array
    {
        $user = $this->database->prepare('SELECT login, hash, role FROM users WHERE login = ?');
        $user->execute([self::canonical($login)]);
        return $user->fetch() ?: null;
    }

    public function administrators(): int
    {
        return (int) $this->database->query("SELECT COUNT(*) FROM users WHERE role = 'administrator'")->fetchColumn();
    }

    /** Carries out a change that must leave an administrator. */
    private function keepOneAdministrator(string $login, callable $change): void
    {
        $this->database->beginTransaction();
        try {
            // Locked, so that two administrators cannot remove each other at the same moment.
            $this->database->query("SELECT login FROM users WHERE role = 'administrator' FOR UPDATE")->fetchAll();
            $change();
            if ($this->administrators() === 0) {
                throw new Invalid('Il faut garder au moins un compte d’administration.');
            }
            $this->database->commit();
        } catch (\Throwable $error) {
            $this->database->rollBack();
            throw $error;
        }
    }

    private function change(string $statement, string $value, string $login): void
    {
        if ($this->find($login) === null) {
            throw new Invalid("Il n'y a pas de compte de ce nom.");
        }
        $this->database->prepare($statement)->execute([$value, self::canonical($login)]);
    }

    private static function checkRole(string $role): void
    {
        if (!isset(self::ROLES[$role])) {
            throw new Invalid('Ce rôle n’existe pas.');
        }
    }

    private static function hash(#[\SensitiveParameter] string $password): string
    {
        if (mb_strlen($password) < self::SHORTEST || strlen($password) > 1024) {
            throw new Invalid('Le mot de passe a au moins ' . self::SHORTEST . ' caractères.');
        }
        return self::hashed($password);
    }

    /** Returns the hash of any text. Argon2id with 19 MiB: several can be computed at once in a small container. */
    public static function hashed(#[\SensitiveParameter] string $text): string
    {
        return defined('PASSWORD_ARGON2ID')
            ? password_hash($text, PASSWORD_ARGON2ID, ['memory_cost' => 19456, 'time_cost' => 2, 'threads' => 1])
            : password_hash($text, PASSWORD_BCRYPT);
    }
}
