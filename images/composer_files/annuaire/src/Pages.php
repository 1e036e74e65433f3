<?php

declare(strict_types=1);

namespace Annuaire;

use Civiparoisse\Html\Html;
use Civiparoisse\Http\Response;

/** The pages as people see them: in French, readable without a mouse, and without any program in the browser. */
final class Pages
{
    public function __construct(private readonly Visitor $visitor, private readonly string $token, private readonly string $parish)
    {
    }

    /** @param list<array<string, mixed>> $birthdays */
    public function home(array $birthdays, int $people): Response
    {
        $rows = array_map(fn (array $person) => Html::of(
            '<li><a href="/people/%s">%s %s</a> : %s ans le %s</li>',
            $person['id'],
            $person['first_name'],
            $person['last_name'],
            $person['age'],
            French::day($person['falls_on'], 'EEEE d MMMM'),
        ), $birthdays);
        $list = $rows === [] ? Html::of('<p>Aucun anniversaire dans les sept jours.</p>') : Html::of('<ul class="birthdays">%s</ul>', $rows);
        return $this->page('Accueil', [
            $this->searchForm(''),
            Html::of('<p>L’annuaire compte <a href="/people">%s</a>.</p>', French::count($people, 'personne', 'personnes')),
            Html::of('<h2>Anniversaires de la semaine</h2>%s', $list),
        ]);
    }

    /** @param array{total: int, people: list<array<string, mixed>>} $found */
    public function people(string $words, int $page, array $found): Response
    {
        $rows = array_map(fn (array $person) => Html::of(
            '<tr><td><a href="/people/%s">%s %s</a></td><td>%s</td><td>%s</td><td>%s</td></tr>',
            $person['id'],
            $person['first_name'],
            $person['last_name'],
            $person['household_name'],
            $person['town'],
            $person['phone'],
        ), $found['people']);
        $table = $rows === [] ? Html::of('<p>Personne ne correspond.</p>') : Html::of(
            '<div class="wide"><table><thead><tr><th scope="col">Nom</th><th scope="col">Foyer</th><th scope="col">Commune</th>'
            . '<th scope="col">Téléphone</th></tr></thead><tbody>%s</tbody></table></div>',
            $rows,
        );
        $last = max(1, (int) ceil($found['total'] / Directory::PAGE));
        $link = fn (int $to, string $text) => Html::of('<a href="/people?%s">%s</a>', http_build_query(['q' => $words, 'page' => $to]), $text);
        $pages = Html::of(
            '<nav aria-label="Pages">%s <span>page %s sur %s</span> %s</nav>',
            $page > 1 ? $link($page - 1, '← précédente') : '',
            min($page, $last),
            $last,
            $page < $last ? $link($page + 1, 'suivante →') : '',
        );
        $new = $this->visitor->mayEdit() ? Html::of('<p><a class="button" href="/people/new">Ajouter une personne</a></p>') : '';
        $count = Html::of('<p role="status">%s</p>', French::count($found['total'], 'personne', 'personnes'));
        return $this->page('Personnes', [$this->searchForm($words), $count, $table, $pages, $new]);
    }

    /** @param array<string, mixed> $person */
    public function person(array $person): Response
    {
        $facts = [
            'Date de naissance' => French::day($person['born_on']),
            'Téléphone' => $person['phone'],
            'Adresse électronique' => $person['mail'],
            'Foyer' => $person['household_name'],
            'Adresse' => trim("{$person['street']}, {$person['postcode']} {$person['town']}", ', '),
            'Groupes' => implode(', ', $person['teams']),
        ];
        $facts = array_filter($facts, fn (?string $fact) => $fact !== null && $fact !== '');
        $list = array_map(fn (string $name, string $fact) => Html::of('<dt>%s</dt><dd>%s</dd>', $name, $fact), array_keys($facts), $facts);
        $change = !$this->visitor->mayEdit() ? '' : Html::of(
            '<p><a class="button" href="/people/%s/edit">Modifier</a></p>%s',
            $person['id'],
            $this->removal("/people/{$person['id']}/remove", 'Supprimer cette personne'),
        );
        return $this->page("{$person['first_name']} {$person['last_name']}", [Html::of('<dl>%s</dl>', $list), $change]);
    }

    /**
     * @param array<string, mixed>|null $person
     * @param list<array<string, mixed>> $households
     * @param list<array<string, mixed>> $teams
     */
    public function personForm(?array $person, array $households, array $teams): Response
    {
        $options = array_map(fn (array $household) => Html::of(
            '<option value="%s"%s>%s</option>',
            $household['id'],
            (int) ($person['household'] ?? 0) === (int) $household['id'] ? Html::of(' selected') : '',
            trim("{$household['name']}, {$household['town']}", ', '),
        ), $households);
        $boxes = array_map(fn (array $team) => Html::of(
            '<label class="box"><input type="checkbox" name="groups[]" value="%s"%s> %s</label>',
            $team['id'],
            isset($person['teams'][$team['id']]) ? Html::of(' checked') : '',
            $team['name'],
        ), $teams);
        $form = $this->form($person === null ? '/people/new' : "/people/{$person['id']}/edit", [
            $this->input('first_name', 'Prénom', $person, 80, required: true),
            $this->input('last_name', 'Nom', $person, 80, required: true),
            $this->input('born_on', 'Date de naissance', $person, 10, 'date'),
            $this->input('phone', 'Téléphone', $person, 30, 'tel'),
            $this->input('mail', 'Adresse électronique', $person, 200, 'email'),
            Html::of('<label>Foyer <select name="household"><option value="0">sans foyer</option>%s</select></label>', $options),
            $boxes === [] ? '' : Html::of('<fieldset><legend>Groupes</legend>%s</fieldset>', $boxes),
        ], 'Enregistrer');
        return $this->page($person === null ? 'Ajouter une personne' : "Modifier {$person['first_name']} {$person['last_name']}", [$form]);
    }

    /** @param list<array<string, mixed>> $households */
    public function households(array $households): Response
    {
        $edit = $this->visitor->mayEdit();
        $rows = array_map(fn (array $household) => Html::of(
            '<tr><td>%s</td><td>%s</td><td>%s %s</td><td>%s</td></tr>',
            $edit ? Html::of('<a href="/households/%s">%s</a>', $household['id'], $household['name']) : $household['name'],
            $household['street'],
            $household['postcode'],
            $household['town'],
            $household['people'],
        ), $households);
        $table = Html::of(
            '<div class="wide"><table><thead><tr><th scope="col">Foyer</th><th scope="col">Rue</th><th scope="col">Commune</th>'
            . '<th scope="col">Personnes</th></tr></thead><tbody>%s</tbody></table></div>',
            $rows,
        );
        $new = $edit ? Html::of('<h2>Ajouter un foyer</h2>%s', $this->form('/households', $this->householdFields(null), 'Ajouter')) : '';
        return $this->page('Foyers', [$table, $new]);
    }

    /** @param array<string, mixed> $household */
    public function householdForm(array $household): Response
    {
        return $this->page("Modifier le foyer {$household['name']}", [
            $this->form("/households/{$household['id']}", $this->householdFields($household), 'Enregistrer'),
            $this->removal("/households/{$household['id']}/remove", 'Supprimer ce foyer (les personnes restent)'),
        ]);
    }

    /**
     * @param array<string, mixed>|null $household
     * @return list<Html>
     */
    private function householdFields(?array $household): array
    {
        return [
            $this->input('name', 'Nom du foyer', $household, 100, required: true),
            $this->input('street', 'Rue', $household, 200),
            $this->input('postcode', 'Code postal', $household, 12),
            $this->input('town', 'Commune', $household, 100),
        ];
    }

    /** @param list<array<string, mixed>> $teams */
    public function teams(array $teams): Response
    {
        $rows = array_map(fn (array $team) => Html::of(
            '<li><a href="/people?%s">%s</a> (%s)%s</li>',
            http_build_query(['q' => $team['name']]),
            $team['name'],
            French::count((int) $team['people'], 'personne', 'personnes'),
            $this->visitor->mayEdit() ? $this->removal("/groups/{$team['id']}/remove", 'Supprimer') : '',
        ), $teams);
        $new = $this->visitor->mayEdit()
            ? Html::of('<h2>Ajouter un groupe</h2>%s', $this->form('/groups', [$this->input('name', 'Nom du groupe', null, 100, required: true)], 'Ajouter'))
            : '';
        return $this->page('Groupes', [Html::of('<ul>%s</ul>', $rows), $new]);
    }

    /** @param list<array{login: string, role: string, mail: string}> $users */
    public function accounts(array $users): Response
    {
        $rows = array_map(fn (array $user) => Html::of(
            '<section><h2>%s</h2><p>%s · %s</p>%s%s%s</section>',
            $user['login'],
            Users::ROLES[$user['role']],
            $user['mail'],
            $this->form('/accounts/' . rawurlencode($user['login']) . '/role', [$this->roles($user['role'])], 'Changer le rôle'),
            $this->form('/accounts/' . rawurlencode($user['login']) . '/password', [$this->password()], 'Changer le mot de passe'),
            $this->removal('/accounts/' . rawurlencode($user['login']) . '/remove', 'Supprimer ce compte'),
        ), $users);
        $new = $this->form('/accounts', [
            $this->input('login', 'Identifiant', null, 60, required: true),
            $this->input('mail', 'Adresse électronique', null, 200, 'email'),
            $this->password(),
            $this->roles('reader'),
        ], 'Ajouter');
        return $this->page('Comptes', [$rows, Html::of('<section><h2>Ajouter un compte</h2>%s</section>', $new)]);
    }

    public function account(): Response
    {
        $old = Html::of('<label>Mot de passe actuel <input type="password" name="old" required autocomplete="current-password"></label>');
        return $this->page('Mon mot de passe', [$this->form('/account', [$old, $this->password()], 'Changer')]);
    }

    public function refused(string $reason, int $status): Response
    {
        $body = Html::of('<p role="alert" class="refused">%s</p><p>Revenez à la page précédente pour corriger.</p>', $reason);
        return $this->page('Refusé', [$body], $status);
    }

    private function searchForm(string $words): Html
    {
        return Html::of(
            '<form action="/people" method="get" role="search"><label>Chercher une personne, un foyer, une commune ou un groupe'
            . ' <input type="search" name="q" value="%s" maxlength="200"></label> <button>Chercher</button></form>',
            $words,
        );
    }

    /** @param array<mixed> $fields */
    private function form(string $to, array $fields, string $button): Html
    {
        return Html::of(
            '<form action="%s" method="post" autocomplete="off"><input type="hidden" name="token" value="%s">%s <button>%s</button></form>',
            $to,
            $this->token,
            $fields,
            $button,
        );
    }

    /** What cannot be undone asks a second time, without a program: the button stands in a part that is unfolded first. */
    private function removal(string $to, string $text): Html
    {
        return Html::of('<details class="removal"><summary>%s</summary>%s</details>', $text, $this->form($to, [], 'Supprimer définitivement'));
    }

    /** @param array<string, mixed>|null $row */
    private function input(string $name, string $label, ?array $row, int $most, string $type = 'text', bool $required = false): Html
    {
        return Html::of(
            '<label>%s <input type="%s" name="%s" value="%s" maxlength="%s"%s></label>',
            $label,
            $type,
            $name,
            $row[$name] ?? '',
            $most,
            $required ? Html::of(' required') : '',
        );
    }

    private function password(): Html
    {
        return Html::of('<label>Nouveau mot de passe (10 caractères au moins) <input type="password" name="password" minlength="10" required autocomplete="new-password"></label>');
    }

    private function roles(string $chosen): Html
    {
        $option = fn (string $role, string $label) => Html::of('<option value="%s"%s>%s</option>', $role, $role === $chosen ? Html::of(' selected') : '', $label);
        return Html::of('<label>Rôle <select name="role">%s</select></label>', array_map($option, array_keys(Users::ROLES), Users::ROLES));
    }

    /** @param array<mixed> $content */
    private function page(string $title, array $content, int $status = 200): Response
    {
        $links = ['/' => 'Accueil', '/people' => 'Personnes', '/households' => 'Foyers', '/groups' => 'Groupes'];
        if ($this->visitor->mayAdminister()) {
            $links['/accounts'] = 'Comptes';
        }
        $navigation = array_map(fn (string $to, string $text) => Html::of('<a href="%s">%s</a>', $to, $text), array_keys($links), $links);
        return new Response($status, (string) Html::of(
            '<!DOCTYPE html><html lang="fr"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
            . '<title>%s – %s</title><link rel="stylesheet" href="/style.css"></head><body>'
            . '<a class="skip" href="#content">Aller au contenu</a><header><p class="parish">%s</p><nav aria-label="Rubriques">%s</nav></header>'
            . '<main id="content"><h1>%s</h1>%s</main><footer><p>Connecté : %s (%s) · <a href="/account">Mon mot de passe</a></p></footer></body></html>',
            $title,
            $this->parish,
            $this->parish,
            $navigation,
            $title,
            $content,
            $this->visitor->login,
            Users::ROLES[$this->visitor->role],
        ));
    }
}
