<?php
// Stands in for Drupal and CiviCRM: as much as the scripts of the images use, on the real databases, and as strict as the real ones
// where they are: the database over TLS, permissions that exist, settings that are there.

namespace StandIn {
    use mysqli;
    use PDO;
    use RuntimeException;

    const VERSION = '6.5.0';

    /** Checks a command line against what the real program documents: options that take a value end in `=`. */
    function options(array $arguments, array $known): array
    {
        $options = $rest = [];
        foreach ($arguments as $argument) {
            if (!str_starts_with($argument, '-')) {
                $rest[] = $argument;
                continue;
            }
            [$name, $value] = explode('=', $argument, 2) + [1 => null];
            if (!in_array($value === null ? $name : "$name=", $known, true)) {
                throw new RuntimeException("The \"$argument\" option does not exist.");
            }
            $options[$name] = $value;
        }
        return [$options, $rest];
    }

    final class Drupal
    {
        public static array $databases = [];
        public static array $settings = [];
        private static ?PDO $connection = null;

        public static function boot(): void
        {
            $app_root = '/app/web';
            $site_path = 'sites/default';
            $databases = $settings = $config = [];
            require "$app_root/$site_path/settings.php";
            [self::$databases, self::$settings] = [$databases, $settings];
            foreach (['hash_salt', 'file_private_path', 'config_sync_directory'] as $needed) {
                if (empty($settings[$needed])) {
                    throw new RuntimeException("no `$needed` in settings.php");
                }
            }
        }

        public static function database(): PDO
        {
            $info = self::$databases['default']['default'];
            if (self::$connection === null) {
                $dsn = "mysql:host=$info[host];port=$info[port];dbname=$info[database];charset=utf8mb4";
                self::$connection = new PDO($dsn, $info['username'], $info['password'], ($info['pdo'] ?? []) + [PDO::ATTR_ERRMODE => PDO::ERRMODE_EXCEPTION]);
                foreach ($info['init_commands'] ?? [] as $command) {
                    self::$connection->exec($command);
                }
            }
            return self::$connection;
        }

        public static function rows(string $sql, array $values = []): array
        {
            $statement = self::database()->prepare($sql);
            $statement->execute($values);
            return $statement->columnCount() > 0 ? $statement->fetchAll(PDO::FETCH_ASSOC) : [];
        }

        public static function modules(): array
        {
            return array_column(self::rows('SELECT name FROM modules'), 'name');
        }

        public static function enable(string $module): void
        {
            self::rows('INSERT IGNORE INTO modules VALUES (?)', [$module]);
        }
    }

    final class CiviCRM
    {
        private static ?mysqli $connection = null;

        public static function boot(): void
        {
            $file = '/app/web/sites/default/civicrm.settings.php';
            if (!is_file($file)) {
                throw new RuntimeException("Could not find $file");
            }
            require_once $file;
            $GLOBALS['civicrm_setting'] ??= [];
        }

        public static function connect(string $dsn): mysqli
        {
            $parts = parse_url($dsn);
            parse_str($parts['query'] ?? '', $query);
            return self::login($parts['host'], $parts['port'] ?? 3306, rawurldecode($parts['user']), rawurldecode($parts['pass']), ltrim($parts['path'], '/'), $query);
        }

        public static function login(string $host, int $port, string $user, string $password, string $database, array $tls): mysqli
        {
            mysqli_report(MYSQLI_REPORT_ERROR | MYSQLI_REPORT_STRICT);
            $connection = mysqli_init();
            if (isset($tls['ca'])) {
                $connection->ssl_set(null, null, $tls['ca'], null, null);
            }
            $connection->real_connect($host, $user, $password, $database, $port, null, isset($tls['ca']) ? MYSQLI_CLIENT_SSL : 0);
            return $connection;
        }

        public static function rows(string $sql, array $values = []): array
        {
            self::$connection ??= self::connect(CIVICRM_DSN);
            $result = self::$connection->execute_query($sql, $values);
            return $result === true ? [] : $result->fetch_all(MYSQLI_ASSOC);
        }

        public static function extensions(): array
        {
            return array_column(self::rows('SELECT full_name FROM civicrm_extension'), 'full_name');
        }

        public static function permissions(): array
        {
            $core = ['access CiviCRM', 'view all contacts', 'edit all contacts', 'add contacts', 'access uploaded files', 'access AJAX API',
                'administer CiviCRM', 'delete contacts'];
            return in_array('authx', self::extensions(), true) ? [...$core, 'authenticate with password', 'authenticate with api key'] : $core;
        }
    }

    /** Runs one command: what is wrong is told, and ends with 1. */
    function main(string $program, array $commands): never
    {
        $arguments = array_slice($_SERVER['argv'], 1);
        $name = array_shift($arguments) ?? '';
        file_put_contents(getenv('STAND_IN_CALLS') ?: '/tmp/calls', "$program $name " . implode(' ', $arguments) . "\n", FILE_APPEND);
        try {
            $command = $commands[$name] ?? throw new RuntimeException("Command \"$name\" is not defined.");
            exit($command($arguments) ?? 0);
        } catch (\Throwable $error) {
            fwrite(STDERR, "\n  [error]  {$error->getMessage()}\n");
            exit(1);
        }
    }
}

namespace Drupal\user\Entity {
    use StandIn\Drupal;

    class User
    {
        private function __construct(private array $row) {}

        public static function load(int $uid): ?self
        {
            $rows = Drupal::rows('SELECT * FROM users WHERE uid = ?', [$uid]);
            return $rows === [] ? null : new self($rows[0]);
        }

        public function setPassword(string $password): self
        {
            $this->row['pass'] = password_hash($password, PASSWORD_DEFAULT);
            return $this;
        }

        public function activate(): self
        {
            $this->row['status'] = 1;
            return $this;
        }

        public function save(): void
        {
            Drupal::rows('UPDATE users SET pass = ?, status = ? WHERE uid = ?', [$this->row['pass'], $this->row['status'], $this->row['uid']]);
        }
    }

    class Role
    {
        private array $permissions = [];

        private function __construct(private string $id, private string $label) {}

        public static function load(string $id): ?self
        {
            $rows = Drupal::rows('SELECT * FROM roles WHERE id = ?', [$id]);
            return $rows === [] ? null : new self($id, $rows[0]['label']);
        }

        public static function create(array $values): self
        {
            return new self($values['id'], $values['label']);
        }

        public function grantPermission(string $permission): self
        {
            $this->permissions[] = $permission;
            return $this;
        }

        public function save(): void
        {
            $known = array_keys(\Drupal::service('user.permissions')->getPermissions());
            if ($wrong = array_diff($this->permissions, $known)) {
                throw new \RuntimeException('Adding non-existent permissions to a role is not allowed. The incorrect permissions are "' . implode('", "', $wrong) . '".');
            }
            Drupal::rows('REPLACE INTO roles VALUES (?, ?, ?)', [$this->id, $this->label, implode("\n", $this->permissions)]);
        }
    }
}

namespace {
    use StandIn\CiviCRM;

    class Drupal
    {
        const VERSION = '10.6.1';

        public static function service(string $name): object
        {
            return match ($name) {
                'civicrm' => new class {
                    public function initialize(): void
                    {
                        CiviCRM::boot();
                    }
                },
                'user.permissions' => new class {
                    public function getPermissions(): array
                    {
                        $all = ['administer users', 'access content'];
                        return array_fill_keys(in_array('civicrm', StandIn\Drupal::modules(), true) ? [...$all, ...CiviCRM::permissions()] : $all, []);
                    }
                },
            };
        }
    }

    class CRM_Mailing_Config
    {
        const OUTBOUND_OPTION_SMTP = 0;
        const OUTBOUND_OPTION_REDIRECT_TO_DB = 5;
    }

    class Civi
    {
        public static function settings(): object
        {
            return new class {
                public function get(string $name): mixed
                {
                    if (array_key_exists($name, $GLOBALS['civicrm_setting']['domain'] ?? [])) {
                        return $GLOBALS['civicrm_setting']['domain'][$name];
                    }
                    $rows = CiviCRM::rows('SELECT value FROM civicrm_setting WHERE name = ?', [$name]);
                    return $rows === [] ? null : unserialize($rows[0]['value']);
                }

                public function set(string $name, mixed $value): void
                {
                    CiviCRM::rows('REPLACE INTO civicrm_setting VALUES (?, ?)', [$name, serialize($value)]);
                    if ($name === 'logging' && $value) {
                        CiviCRM::connect(CIVICRM_LOGGING_DSN)->query('CREATE TABLE IF NOT EXISTS log_civicrm_contact (id INT)');
                    }
                }
            };
        }
    }

    class CRM_Core_Config
    {
        public object $userSystem;

        public static function singleton(): self
        {
            $config = new self();
            $config->userSystem = new class {
                /** Makes a contact for each account that has an address. */
                public function synchronizeUsers(): array
                {
                    foreach (StandIn\Drupal::rows("SELECT uid, mail FROM users WHERE mail <> ''") as $user) {
                        CiviCRM::rows('INSERT IGNORE INTO civicrm_uf_match VALUES (?, ?)', [$user['uid'], 100 + $user['uid']]);
                    }
                    return [];
                }
            };
            return $config;
        }
    }
}
