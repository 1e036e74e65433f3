<?php
// Stands in for the network while Composer runs in a sandbox of parvis: each address that parvis has locked is answered with the
// file that was locked for it, and every other one is written down and answered with "not found". Composer, its plugins and the
// files that they write see the same addresses as anywhere else. PHP reads this file before each program.

namespace Parvis {
    final class Offer
    {
        /** The folder with the list and the files. */
        private const FOLDER = '/parvis';

        /** @var array<string, string>|null What is offered: names of files by address; `-` for what is known not to exist. */
        private static ?array $list = null;

        /** @var list<string>|null The head of the last answer, as PHP keeps it for its own http streams. */
        public static ?array $head = null;

        /** @var resource|null Set by PHP. */
        public $context;

        /** @var resource|null */
        private $file;

        public function stream_open(string $address, string $mode, int $options, ?string &$opened): bool
        {
            self::$head = ['HTTP/1.1 404 Not Found'];
            $name = self::list()[$address] ?? null;
            if ($name === null) {
                \file_put_contents(self::FOLDER . '/missing', "$address\n", FILE_APPEND | LOCK_EX);
            }
            if ($name === null || $name === '-') {
                $settings = $this->context === null ? [] : \stream_context_get_options($this->context);
                if (($settings['http']['ignore_errors'] ?? false) !== true) {
                    \trigger_error("`$address` is not locked", E_USER_WARNING);
                    return false;
                }
                $this->file = \fopen('php://memory', 'rb');
                return true;
            }
            $path = self::FOLDER . "/files/$name";
            if (\hash_file('sha256', $path) !== $name) {
                \trigger_error("what the store has of `$address` is damaged", E_USER_WARNING);
                return false;
            }
            self::$head = ['HTTP/1.1 200 OK', 'Content-Length: ' . \filesize($path)];
            $this->file = \fopen($path, 'rb');
            return $this->file !== false;
        }

        public function stream_read(int $count): string|false
        {
            return \fread($this->file, $count);
        }

        public function stream_eof(): bool
        {
            return \feof($this->file);
        }

        public function stream_seek(int $offset, int $whence): bool
        {
            return \fseek($this->file, $offset, $whence) === 0;
        }

        public function stream_tell(): int
        {
            return (int) \ftell($this->file);
        }

        public function stream_stat(): array|false
        {
            return \fstat($this->file);
        }

        public function stream_set_option(int $option, int $first, ?int $second): bool
        {
            return false;
        }

        public function stream_close(): void
        {
            \fclose($this->file);
        }

        /** What is asked for with `file_exists` is no file of this machine, as with PHP's own http streams. */
        public function url_stat(string $path, int $flags): array|false
        {
            return false;
        }

        /** @return array<string, string> */
        private static function list(): array
        {
            if (self::$list === null) {
                self::$list = [];
                foreach (\file(self::FOLDER . '/offer', FILE_IGNORE_NEW_LINES) ?: [] as $line) {
                    [$address, $name] = \explode("\t", $line, 2);
                    self::$list[$address] = $name;
                }
            }
            return self::$list;
        }
    }

    foreach (['http', 'https', 'ftp', 'ftps'] as $scheme) {
        if (\in_array($scheme, \stream_get_wrappers(), true)) {
            \stream_wrapper_unregister($scheme);
        }
        \stream_wrapper_register($scheme, Offer::class);
    }
}

namespace {
    // PHP's own know nothing of such streams; php.ini takes them away so that these can stand here.
    if (!\function_exists('http_get_last_response_headers')) {
        function http_get_last_response_headers(): ?array
        {
            return \Parvis\Offer::$head;
        }

        function http_clear_last_response_headers(): void
        {
            \Parvis\Offer::$head = null;
        }
    }
}
