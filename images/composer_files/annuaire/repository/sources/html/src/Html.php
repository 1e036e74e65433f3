<?php

declare(strict_types=1);

namespace Civiparoisse\Html;

/** A piece of HTML. */
final class Html
{
    private function __construct(private readonly string $text)
    {
    }

    /**
     * Fills a form of HTML, in which `%s` stands for a part. Text and numbers are escaped; pieces of HTML, and lists of them, are
     * kept. The form itself is written by the programmer, and never holds what came from outside.
     */
    public static function of(string $form, mixed ...$parts): self
    {
        return new self(vsprintf($form, array_map(self::part(...), $parts)));
    }

    private static function part(mixed $part): string
    {
        return match (true) {
            $part instanceof self => $part->text,
            is_array($part) => implode('', array_map(self::part(...), $part)),
            default => htmlspecialchars((string) $part),
        };
    }

    public function __toString(): string
    {
        return $this->text;
    }
}
