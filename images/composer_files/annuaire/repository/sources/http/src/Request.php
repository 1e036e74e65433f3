<?php

declare(strict_types=1);

namespace Civiparoisse\Http;

/** What a browser or the proxy asked, taken once from PHP's globals. */
final class Request
{
    /**
     * @param array<mixed> $query
     * @param array<mixed> $form
     */
    public function __construct(
        public readonly string $method,
        public readonly string $path,
        private readonly array $query,
        private readonly array $form,
        public readonly ?string $user,
        #[\SensitiveParameter] public readonly ?string $password,
        /** The visitor's address, as the proxy says it. */
        public readonly string $address,
    ) {
    }

    public static function current(): self
    {
        $path = parse_url('http://x' . ($_SERVER['REQUEST_URI'] ?? '/'), PHP_URL_PATH);
        // Only the last element was written by the proxy; what stands before it is what the visitor claims.
        $forwarded = explode(',', $_SERVER['HTTP_X_FORWARDED_FOR'] ?? '');
        $address = filter_var(trim(end($forwarded)), FILTER_VALIDATE_IP);
        return new self(
            $_SERVER['REQUEST_METHOD'] ?? 'GET',
            is_string($path) ? rawurldecode($path) : '/',
            $_GET,
            $_POST,
            isset($_SERVER['PHP_AUTH_USER']) ? (string) $_SERVER['PHP_AUTH_USER'] : null,
            isset($_SERVER['PHP_AUTH_PW']) ? (string) $_SERVER['PHP_AUTH_PW'] : null,
            $address === false ? ($_SERVER['REMOTE_ADDR'] ?? '') : $address,
        );
    }

    /** Returns a value of the address, trimmed; empty where it is absent or no text. */
    public function query(string $name, int $most = 200): string
    {
        return self::text($this->query[$name] ?? '', $most);
    }

    /** Returns a field of the form, trimmed; empty where it is absent or no text. */
    public function field(string $name, int $most = 200): string
    {
        return self::text($this->form[$name] ?? '', $most);
    }

    /** Returns a password field: not trimmed. */
    public function secret(string $name): string
    {
        $value = $this->form[$name] ?? '';
        return is_string($value) && strlen($value) <= 1024 ? $value : '';
    }

    /**
     * Returns the numbers of a field that may stand several times.
     *
     * @return list<int>
     */
    public function numbers(string $name): array
    {
        $values = $this->form[$name] ?? [];
        $numbers = array_filter(is_array($values) ? $values : [], fn ($value) => is_string($value) && ctype_digit($value) && strlen($value) < 10);
        return array_values(array_unique(array_map(intval(...), $numbers)));
    }

    private static function text(mixed $value, int $most): string
    {
        if (!is_string($value) || !mb_check_encoding($value, 'UTF-8')) {
            return '';
        }
        // Control characters have no place in names and addresses; line ends and tabs become blanks.
        $plain = preg_replace('/[\x00-\x1f\x7f]+/u', ' ', $value) ?? '';
        return mb_substr(trim($plain), 0, $most);
    }
}
