<?php

declare(strict_types=1);

namespace Civiparoisse\Http;

/** Finds what answers a request: patterns such as `/people/{id}`, where `{id}` is a number and `{name}` is one part of a path. */
final class Router
{
    /** @var array<string, array<string, callable>> Handlers by pattern and method. */
    private array $routes = [];

    public function on(string $method, string $pattern, callable $handler): void
    {
        $this->routes[$pattern][$method] = $handler;
    }

    /** Returns the answer; 404 where no pattern fits, 405 where one does but not for this method. */
    public function answer(Request $request): Response
    {
        $method = $request->method === 'HEAD' ? 'GET' : $request->method;
        $allowed = [];
        foreach ($this->routes as $pattern => $handlers) {
            $expression = strtr(preg_quote($pattern, '~'), ['\{id\}' => '([1-9][0-9]{0,8})', '\{name\}' => '([^/]{1,60})']);
            if (preg_match("~\\A$expression\\z~u", $request->path, $found) !== 1) {
                continue;
            }
            if (isset($handlers[$method])) {
                return $handlers[$method]($request, ...array_slice($found, 1));
            }
            $allowed = array_merge($allowed, array_keys($handlers));
        }
        return $allowed === []
            ? Response::text(404, 'not found')
            : Response::text(405, 'method not allowed')->with(['Allow' => implode(', ', array_unique($allowed))]);
    }
}
