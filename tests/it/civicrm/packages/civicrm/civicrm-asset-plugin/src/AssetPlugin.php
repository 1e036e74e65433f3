<?php
// A stand-in: copies what browsers fetch from CiviCRM to the web root, and adds a file with the paths to the autoloader.

namespace Civi\AssetPlugin;

use Composer\Composer;
use Composer\EventDispatcher\EventSubscriberInterface;
use Composer\IO\IOInterface;
use Composer\Plugin\PluginInterface;
use Composer\Script\Event;

class AssetPlugin implements PluginInterface, EventSubscriberInterface
{
    public function activate(Composer $composer, IOInterface $io) {}
    public function deactivate(Composer $composer, IOInterface $io) {}
    public function uninstall(Composer $composer, IOInterface $io) {}

    public static function getSubscribedEvents()
    {
        // After the others have fetched and compiled.
        return ['pre-autoload-dump' => ['map', -100], 'post-install-cmd' => ['publish', -100]];
    }

    public function map(Event $event)
    {
        $file = $event->getComposer()->getConfig()->get('vendor-dir') . '/composer/autoload_civicrm_asset.php';
        $url = $event->getComposer()->getPackage()->getExtra()['civicrm-asset']['url'];
        file_put_contents($file, "<?php\nglobal \$civicrm_paths;\n\$civicrm_paths['civicrm.root']['url'] = '$url/core';\n");
        $root = $event->getComposer()->getPackage();
        $autoload = $root->getAutoload();
        $autoload['files'][] = $file;
        $root->setAutoload($autoload);
    }

    public function publish(Event $event)
    {
        $to = $event->getComposer()->getPackage()->getExtra()['civicrm-asset']['path'];
        $core = $event->getComposer()->getRepositoryManager()->getLocalRepository()->findPackage('civicrm/civicrm-core', '*');
        $from = $event->getComposer()->getInstallationManager()->getInstallPath($core);
        foreach (new \RecursiveIteratorIterator(new \RecursiveDirectoryIterator($from, \FilesystemIterator::SKIP_DOTS)) as $file) {
            if (in_array($file->getExtension(), ['js', 'css'], true)) {
                $target = "$to/core" . substr($file->getPathname(), strlen($from));
                @mkdir(dirname($target), 0777, true);
                copy($file->getPathname(), $target);
            }
        }
    }
}
