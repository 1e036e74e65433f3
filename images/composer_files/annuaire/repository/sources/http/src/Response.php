<?php

declare(strict_types=1);

namespace Civiparoisse\Http;

/** What is answered. */
final class Response
{
    /** @param array<string, string> $headers */
    public function __construct(
        public readonly int $status,
        public readonly string $body = '',
        public readonly array $headers = ['Content-Type' => 'text/html; charset=utf-8'],
    ) {
    }

    public static function text(int $status, string $line): self
    {
        return new self($status, "$line\n", ['Content-Type' => 'text/plain; charset=utf-8']);
    }

    /** Sends the browser to a page after a form: reloading that page sends no form again. */
    public static function seeOther(string $path): self
    {
        return new self(303, '', ['Location' => $path]);
    }

    /** @param array<string, string> $headers */
    public function with(array $headers): self
    {
        return new self($this->status, $this->body, $headers + $this->headers);
    }

    public function send(bool $withBody = true): void
    {
        http_response_code($this->status);
        foreach ($this->headers as $name => $value) {
            // No value ends a header and begins another.
            header($name . ': ' . str_replace(["\r", "\n", "\0"], '', $value));
        }
        if ($withBody) {
            echo $this->body;
        }
    }
}
