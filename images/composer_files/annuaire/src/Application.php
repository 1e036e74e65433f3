<?php

declare(strict_types=1);

namespace Annuaire;

use Civiparoisse\Http\Request;
use Civiparoisse\Http\Response;
use Civiparoisse\Http\Router;
use PDO;

/** The web site: which address leads where, and who may go there. */
final class Application
{
    /** For every answer. Pages hold names and addresses: nobody keeps a copy, frames them or adds a program to them. */
    private const HEADERS = [
        'Cache-Control' => 'no-store',
        'Content-Security-Policy' => "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
        'Cross-Origin-Opener-Policy' => 'same-origin',
        'Cross-Origin-Resource-Policy' => 'same-origin',
        'Referrer-Policy' => 'no-referrer',
        'X-Content-Type-Options' => 'nosniff',
        'X-Frame-Options' => 'DENY',
        'Permissions-Policy' => 'camera=(), geolocation=(), microphone=()',
    ];

    private readonly Directory $directory;
    private readonly Users $users;
    private readonly Door $door;

    private function __construct(private readonly PDO $database, string $key)
    {
        $this->directory = new Directory($database);
        $this->users = new Users($database);
        $this->door = new Door($database, $key);
    }

    /** Answers the request that PHP was started for. */
    public static function serve(): void
    {
        header_remove('X-Powered-By');
        $request = Request::current();
        try {
            $response = self::answer($request);
        } catch (\Throwable $error) {
            // The reason goes to the log; whoever asked learns nothing of the inside.
            error_log('annuaire: ' . get_class($error) . ': ' . $error->getMessage() . " at {$error->getFile()}:{$error->getLine()}");
            $away = $error instanceof Trouble || $error instanceof \PDOException;
            $response = Response::text($away ? 503 : 500, 'Le service est momentanément indisponible.');
        }
        $response->with(array_diff_key(self::HEADERS, $response->headers))->send($request->method !== 'HEAD');
    }

    private static function answer(Request $request): Response
    {
        $settings = Settings::read();
        $database = Database::application($settings);
        if ($request->path === '/health') {
            $ailment = (new Installation($settings))->ailment($database);
            return $ailment === null ? Response::text(200, 'well') : Response::text(503, 'unhealthy');
        }
        $key = $database->query("SELECT value FROM settings WHERE name = 'form_key'")->fetchColumn();
        if (!is_string($key) || strlen($key) !== 64) {
            throw new Trouble('the installation is not finished', 'run the job `init`');
        }
        return (new self($database, $key))->admitted($request);
    }

    private function admitted(Request $request): Response
    {
        $visitor = $this->door->admit($request);
        if ($visitor === null) {
            return Response::text(401, 'Identifiant ou mot de passe incorrect, ou trop d’essais : réessayez dans une minute.')
                ->with(['WWW-Authenticate' => 'Basic realm="Civiparoisse", charset="UTF-8"']);
        }
        if ($request->path === '/auth') {
            return Response::text(200, 'well')->with(['X-Annuaire-User' => $visitor->login, 'X-Annuaire-Role' => $visitor->role]);
        }
        if ($request->method === 'POST' && !$this->door->isToken($request->field('token'), $visitor)) {
            return Response::text(403, 'Ce formulaire est trop ancien ou ne vient pas d’ici : rechargez la page, puis recommencez.');
        }
        $pages = new Pages($visitor, $this->door->token($visitor), $this->directory->parish());
        return $this->routes($visitor, $pages)->answer($request);
    }

    private function routes(Visitor $visitor, Pages $pages): Router
    {
        $router = new Router();
        $directory = $this->directory;
        $router->on('GET', '/style.css', fn () => self::style());
        $router->on('GET', '/', fn (Request $request) => $pages->home($directory->birthdays(), $directory->search('', 1)['total']));
        $router->on('GET', '/people', function (Request $request) use ($directory, $pages) {
            $page = max(1, (int) $request->query('page', 6));
            return $pages->people($request->query('q'), $page, $directory->search($request->query('q'), $page));
        });
        $router->on('GET', '/people/{id}', fn (Request $request, string $id) => $this->one($directory->person((int) $id), $pages->person(...)));
        $router->on('GET', '/households', fn () => $pages->households($directory->households()));
        $router->on('GET', '/groups', fn () => $pages->teams($directory->teams()));

        $edit = function (string $method, string $pattern, callable $handler) use ($router, $visitor, $pages): void {
            $router->on($method, $pattern, self::guarded($visitor->mayEdit(), $pages, $handler));
        };
        $edit('GET', '/people/new', fn () => $pages->personForm(null, $directory->households(), $directory->teams()));
        $edit('POST', '/people/new', fn (Request $request) => $this->savePerson($request, null));
        $edit('GET', '/people/{id}/edit', fn (Request $request, string $id) => $this->one(
            $directory->person((int) $id),
            fn (array $person) => $pages->personForm($person, $directory->households(), $directory->teams()),
        ));
        $edit('POST', '/people/{id}/edit', fn (Request $request, string $id) => $this->one(
            $directory->person((int) $id),
            fn () => $this->savePerson($request, (int) $id),
        ));
        $edit('POST', '/people/{id}/remove', function (Request $request, string $id) use ($directory) {
            $directory->removePerson((int) $id);
            return Response::seeOther('/people');
        });
        $edit('POST', '/households', function (Request $request) use ($directory) {
            $directory->saveHousehold(null, self::household($request));
            return Response::seeOther('/households');
        });
        $edit('GET', '/households/{id}', fn (Request $request, string $id) => $this->one($directory->household((int) $id), $pages->householdForm(...)));
        $edit('POST', '/households/{id}', function (Request $request, string $id) use ($directory) {
            $directory->saveHousehold((int) $id, self::household($request));
            return Response::seeOther('/households');
        });
        $edit('POST', '/households/{id}/remove', function (Request $request, string $id) use ($directory) {
            $directory->removeHousehold((int) $id);
            return Response::seeOther('/households');
        });
        $edit('POST', '/groups', function (Request $request) use ($directory) {
            $directory->addTeam($request->field('name', 100));
            return Response::seeOther('/groups');
        });
        $edit('POST', '/groups/{id}/remove', function (Request $request, string $id) use ($directory) {
            $directory->removeTeam((int) $id);
            return Response::seeOther('/groups');
        });

        // Everybody's own password. The token says who asks; whoever knows only an open browser lacks the old password.
        $router->on('GET', '/account', fn () => $pages->account());
        $router->on('POST', '/account', self::guarded(true, $pages, function (Request $request) use ($visitor) {
            $this->users->changeOwn($visitor->login, $request->secret('old'), $request->secret('password'));
            return Response::text(200, 'Le mot de passe est changé. Fermez le navigateur, ou rechargez la page, puis connectez-vous avec le nouveau.');
        }));

        $administer = function (string $method, string $pattern, callable $handler) use ($router, $visitor, $pages): void {
            $router->on($method, $pattern, self::guarded($visitor->mayAdminister(), $pages, $handler));
        };
        $users = $this->users;
        $administer('GET', '/accounts', fn () => $pages->accounts($users->all()));
        $administer('POST', '/accounts', function (Request $request) use ($users) {
            $users->add($request->field('login', 60), $request->secret('password'), $request->field('role'), $request->field('mail'));
            return Response::seeOther('/accounts');
        });
        $administer('POST', '/accounts/{name}/role', function (Request $request, string $login) use ($users) {
            $users->setRole($login, $request->field('role'));
            return Response::seeOther('/accounts');
        });
        $administer('POST', '/accounts/{name}/password', function (Request $request, string $login) use ($users) {
            $users->setPassword($login, $request->secret('password'));
            return Response::seeOther('/accounts');
        });
        $administer('POST', '/accounts/{name}/remove', function (Request $request, string $login) use ($users) {
            $users->remove($login);
            return Response::seeOther('/accounts');
        });
        return $router;
    }

    /** Returns a handler that the server refuses to whoever lacks the right, and that shows what was typed wrongly. */
    private static function guarded(bool $allowed, Pages $pages, callable $handler): callable
    {
        return function (Request $request, string ...$parts) use ($allowed, $pages, $handler): Response {
            if (!$allowed) {
                return $pages->refused('Votre compte ne permet pas cela.', 403);
            }
            try {
                return $handler($request, ...$parts);
            } catch (Invalid $invalid) {
                return $pages->refused($invalid->getMessage(), 422);
            }
        };
    }

    /** @param array<string, mixed>|null $row */
    private function one(?array $row, callable $page): Response
    {
        return $row === null ? Response::text(404, 'Cette fiche n’existe pas, ou plus.') : $page($row);
    }

    private function savePerson(Request $request, ?int $id): Response
    {
        $id = $this->directory->savePerson($id, [
            'first_name' => $request->field('first_name', 80),
            'last_name' => $request->field('last_name', 80),
            'born_on' => $request->field('born_on', 10),
            'phone' => $request->field('phone', 30),
            'mail' => $request->field('mail', 200),
            'household' => (int) $request->field('household', 9),
        ], $request->numbers('groups'));
        return Response::seeOther("/people/$id");
    }

    /** @return array{name: string, street: string, postcode: string, town: string} */
    private static function household(Request $request): array
    {
        return [
            'name' => $request->field('name', 100),
            'street' => $request->field('street', 200),
            'postcode' => $request->field('postcode', 12),
            'town' => $request->field('town', 100),
        ];
    }

    private static function style(): Response
    {
        $style = file_get_contents(dirname(__DIR__) . '/vendor/civiparoisse/theme/assets/annuaire.css');
        return new Response(200, (string) $style, ['Content-Type' => 'text/css; charset=utf-8', 'Cache-Control' => 'private, max-age=300']);
    }
}
