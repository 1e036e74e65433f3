<?php
// A stand-in: copies the files that drupal/core asks for to the web root, and makes the autoload.php that index.php reads.

namespace Drupal\Composer\Plugin\Scaffold;

use Composer\Composer;
use Composer\EventDispatcher\EventSubscriberInterface;
use Composer\IO\IOInterface;
use Composer\Plugin\PluginInterface;
use Composer\Script\Event;

class Plugin implements PluginInterface, EventSubscriberInterface
{
    public function activate(Composer $composer, IOInterface $io) {}
    public function deactivate(Composer $composer, IOInterface $io) {}
    public function uninstall(Composer $composer, IOInterface $io) {}

    public static function getSubscribedEvents()
    {
        return ['post-install-cmd' => 'scaffold', 'post-update-cmd' => 'scaffold'];
    }

    public function scaffold(Event $event)
    {
        $composer = $event->getComposer();
        $web = rtrim($composer->getPackage()->getExtra()['drupal-scaffold']['locations']['web-root'], '/');
        $core = $composer->getRepositoryManager()->getLocalRepository()->findPackage('drupal/core', '*');
        $from = $composer->getInstallationManager()->getInstallPath($core);
        foreach ($core->getExtra()['drupal-scaffold']['file-mapping'] as $to => $file) {
            $to = str_replace('[web-root]', $web, $to);
            @mkdir(dirname($to), 0777, true);
            copy("$from/$file", $to);
        }
        file_put_contents("$web/autoload.php", "<?php\nreturn require __DIR__ . '/../vendor/autoload.php';\n");
    }
}
