<?php

declare(strict_types=1);

namespace Annuaire;

use Civiparoisse\Http\Request;
use PDO;

/**
 * Says who asks. There is no session: a browser sends its name and password with each request (RFC 7617), and the proxy lets nothing
 * pass that this door would refuse.
 *
 * Guessing is slowed down by the pair of login and visitor's address, and by the address alone, never by the login alone: so nobody
 * can shut another person out from elsewhere. A container engine may show every visitor under one address, so the wait is short, and
 * whoever was let in a moment ago does not wait at all.
 */
final class Door
{
    /** Failures that cost nothing, for a pair and for an address. */
    private const FREE = 5;
    private const FREE_FOR_ADDRESS = 30;

    /** Seconds: the first delay, which doubles with each failure, and the longest. */
    private const FIRST = 5;
    private const LONGEST = 60;

    /** Seconds after its last use for which a password that was right is not computed again. */
    private const REMEMBERED = 600;

    public function __construct(private readonly PDO $database, private readonly string $key)
    {
    }

    /** Returns who asks; `null` where the credentials are absent or wrong. */
    public function admit(Request $request): ?Visitor
    {
        if ($request->user === null || $request->password === null || strlen($request->password) > 1024) {
            return null;
        }
        $login = Users::canonical($request->user);
        $user = (new Users($this->database))->find($login);
        // Each page comes with credentials, and a good hash takes a tenth of a second: what was right a moment ago is remembered under a
        // keyed digest of name, password and stored hash. A changed password is another key; the role is read anew each time.
        $memory = $user === null ? null : 'door:' . hash_hmac('sha256', "$login\0{$user['hash']}\0$request->password", $this->key);
        if ($memory !== null && function_exists('apcu_fetch') && apcu_fetch($memory) === true) {
            apcu_store($memory, true, self::REMEMBERED);
            return new Visitor($user['login'], $user['role']);
        }
        $subjects = [
            hash('sha256', "pair\0$login\0$request->address", true) => self::FREE,
            hash('sha256', "address\0$request->address", true) => self::FREE_FOR_ADDRESS,
        ];
        // Counted as a failure before it is looked at: a hundred guesses at the same moment are not looked at a hundred times.
        foreach ($subjects as $subject => $free) {
            if (!$this->mayTry((string) $subject, $free)) {
                return null;
            }
        }
        // Where there is no such account the same work is done, so that time does not tell which logins exist.
        $hash = $user['hash'] ?? $this->decoy();
        if (!password_verify($request->password, $hash) || $user === null) {
            $this->database->exec('DELETE FROM attempts WHERE last_at < UTC_TIMESTAMP() - INTERVAL 2 DAY LIMIT 100');
            return null;
        }
        $forget = $this->database->prepare('DELETE FROM attempts WHERE subject = ?');
        foreach (array_keys($subjects) as $subject) {
            $forget->execute([(string) $subject]);
        }
        if ($memory !== null && function_exists('apcu_store')) {
            apcu_store($memory, true, self::REMEMBERED);
        }
        return new Visitor($user['login'], $user['role']);
    }

    /** Returns the token that a form must carry: it tells that the form came from a page that this person was shown. */
    public function token(Visitor $visitor, int $halfDaysAgo = 0): string
    {
        return hash_hmac('sha256', "form\0$visitor->login\0" . (intdiv(time(), 43200) - $halfDaysAgo), $this->key);
    }

    public function isToken(string $token, Visitor $visitor): bool
    {
        return hash_equals($this->token($visitor), $token) || hash_equals($this->token($visitor, 1), $token);
    }

    /** Says whether an attempt is looked at now, and counts it where it is. */
    private function mayTry(string $subject, int $free): bool
    {
        $this->database->prepare('INSERT IGNORE INTO attempts VALUES (?, 0, UTC_TIMESTAMP())')->execute([$subject]);
        $this->database->beginTransaction();
        try {
            $failed = $this->database->prepare(
                'SELECT failures, TIMESTAMPDIFF(SECOND, last_at, UTC_TIMESTAMP()) AS ago FROM attempts WHERE subject = ? FOR UPDATE',
            );
            $failed->execute([$subject]);
            ['failures' => $failures, 'ago' => $ago] = $failed->fetch() ?: ['failures' => 0, 'ago' => 0];
            // A day without a failure is a new beginning.
            $failures = $ago > 86400 ? 0 : (int) $failures;
            $delay = $failures < $free ? 0 : min(self::LONGEST, self::FIRST * 2 ** min(10, $failures - $free));
            if ($ago >= $delay) {
                $count = $this->database->prepare('UPDATE attempts SET failures = LEAST(? + 1, 1000), last_at = UTC_TIMESTAMP() WHERE subject = ?');
                $count->execute([$failures, $subject]);
            }
            $this->database->commit();
            return $ago >= $delay;
        } catch (\Throwable $error) {
            $this->database->rollBack();
            throw $error;
        }
    }

    private function decoy(): string
    {
        $made = function_exists('apcu_fetch') ? apcu_fetch('door-decoy') : false;
        if (!is_string($made)) {
            $made = Users::hashed(bin2hex(random_bytes(16)));
            if (function_exists('apcu_store')) {
                apcu_store('door-decoy', $made);
            }
        }
        return $made;
    }
}
