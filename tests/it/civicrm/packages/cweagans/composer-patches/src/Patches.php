<?php
// A stand-in: applies the patches that packages name for others, where the project allows it.

namespace cweagans\Composer;

use Composer\Composer;
use Composer\EventDispatcher\EventSubscriberInterface;
use Composer\Factory;
use Composer\Installer\PackageEvent;
use Composer\IO\IOInterface;
use Composer\Plugin\PluginInterface;
use Composer\Util\RemoteFilesystem;

class Patches implements PluginInterface, EventSubscriberInterface
{
    private $io;

    public function activate(Composer $composer, IOInterface $io)
    {
        $this->io = $io;
    }

    public function deactivate(Composer $composer, IOInterface $io) {}
    public function uninstall(Composer $composer, IOInterface $io) {}

    public static function getSubscribedEvents()
    {
        return ['post-package-install' => ['patch', 10]];
    }

    public function patch(PackageEvent $event)
    {
        $composer = $event->getComposer();
        if (!($composer->getPackage()->getExtra()['enable-patching'] ?? false)) {
            return;
        }
        $package = $event->getOperation()->getPackage();
        $place = $composer->getInstallationManager()->getInstallPath($package);
        $locked = $composer->getLocker()->getLockedRepository()->getPackages();
        foreach ($locked as $other) {
            foreach ($other->getExtra()['patches'][$package->getName()] ?? [] as $url) {
                // As the real one does, with the downloader of Composer 1.
                $file = tempnam(sys_get_temp_dir(), 'patch');
                if (file_exists($url)) {
                    copy($url, $file);
                } else {
                    $downloader = new RemoteFilesystem($this->io, $composer->getConfig());
                    $downloader->copy(parse_url($url, PHP_URL_HOST), $url, $file, false);
                }
                passthru('patch -p1 --no-backup-if-mismatch -d ' . escapeshellarg($place) . ' < ' . escapeshellarg($file), $status);
                if ($status !== 0) {
                    throw new \Exception("Cannot apply patch $url!");
                }
            }
        }
    }
}
