<?php

declare(strict_types=1);

namespace Annuaire;

use Civiparoisse\Migrations\MigrationError;
use DateTimeImmutable;

/** The commands of `bin/annuaire`. Results are plain lines; no line holds a password. */
final class CommandLine
{
    private const USAGE = <<<'TEXT'
        usage: annuaire install                      creates the database, its user and the first administrator; harmless when repeated
               annuaire migrate                      brings the database up to date
               annuaire birthdays [--day DAY]        writes down whose birthday falls within seven days
               annuaire health                       says whether the application can serve
               annuaire user list
               annuaire user add LOGIN ROLE [MAIL]   reads the password from standard input; roles: reader, editor, administrator
               annuaire user password LOGIN          reads the password from standard input
               annuaire user role LOGIN ROLE
        TEXT;

    /**
     * @param list<string> $words
     * @return int 0 done, 1 it failed, 2 the command line is wrong
     */
    public static function run(array $words): int
    {
        try {
            return self::obey($words);
        } catch (Trouble | MigrationError $error) {
            fwrite(STDERR, "error: {$error->getMessage()}\nhint: $error->hint\n");
        } catch (Invalid | \PDOException $error) {
            fwrite(STDERR, "error: {$error->getMessage()}\n");
        }
        return 1;
    }

    /** @param list<string> $words */
    private static function obey(array $words): int
    {
        $settings = Settings::read();
        $installation = new Installation($settings);
        $wait = fn (int $default): int => max(0, min(3600, (int) (getenv('WAIT') === false ? $default : getenv('WAIT'))));
        switch (true) {
            case $words === ['install']:
                $installation->install(self::say(...), $wait(120));
                return 0;
            case $words === ['migrate']:
                $installation->migrate(Database::application($settings, $wait(120)), self::say(...));
                return 0;
            case $words === ['health']:
                $ailment = $installation->ailment(Database::application($settings));
                if ($ailment !== null) {
                    fwrite(STDERR, "unhealthy: $ailment\n");
                    return 1;
                }
                self::say('well');
                return 0;
            case ($words[0] ?? '') === 'birthdays' && (count($words) === 1 || (count($words) === 3 && $words[1] === '--day')):
                return self::birthdays($settings, $words[2] ?? date('Y-m-d'), $wait(30));
            case ($words[0] ?? '') === 'user':
                $done = self::user(new Users(Database::application($settings)), array_slice($words, 1));
                if ($done) {
                    return 0;
                }
        }
        fwrite(STDERR, self::USAGE . "\n");
        return 2;
    }

    private static function birthdays(Settings $settings, string $text, int $wait): int
    {
        $day = DateTimeImmutable::createFromFormat('!Y-m-d', $text);
        if ($day === false || $day->format('Y-m-d') !== $text) {
            fwrite(STDERR, "error: `$text` is no day\nhint: write it as 2026-02-28\n");
            return 2;
        }
        $database = Database::application($settings, $wait);
        $found = (new Directory($database))->noteBirthdays($day);
        self::say('birthdays from ' . $text . ' to ' . $day->modify('+6 days')->format('Y-m-d') . ': ' . count($found));
        foreach ($found as $birthday) {
            self::say("  {$birthday['falls_on']}  {$birthday['first_name']} {$birthday['last_name']}, {$birthday['age']}");
        }
        return 0;
    }

    /** @param list<string> $words */
    private static function user(Users $users, array $words): bool
    {
        $login = $words[1] ?? '';
        switch ([$words[0] ?? '', count($words)]) {
            case ['list', 1]:
                foreach ($users->all() as $user) {
                    self::say("{$user['login']}  {$user['role']}  {$user['mail']}");
                }
                return true;
            case ['add', 3]:
            case ['add', 4]:
                $users->add($login, self::password(), $words[2], $words[3] ?? '');
                return true;
            case ['password', 2]:
                $users->setPassword($login, self::password());
                return true;
            case ['role', 3]:
                $users->setRole($login, $words[2]);
                return true;
        }
        return false;
    }

    private static function password(): string
    {
        return rtrim((string) stream_get_contents(STDIN, 2048), "\r\n");
    }

    private static function say(string $line): void
    {
        // What people typed into the directory goes into a log: it begins no line and no control sequence there.
        fwrite(STDOUT, (preg_replace('/[\x00-\x1f\x7f]/', '?', $line) ?? '') . "\n");
    }
}
