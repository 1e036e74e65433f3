<?php
// A stand-in: fetches what `extra.downloads` of packages names, with Composer's own downloader, archives unpacked.

namespace LastCall\DownloadsPlugin;

use Composer\Composer;
use Composer\EventDispatcher\EventSubscriberInterface;
use Composer\Installer\PackageEvent;
use Composer\IO\IOInterface;
use Composer\Package\Package;
use Composer\Plugin\PluginInterface;
use Composer\Script\Event;

class Plugin implements PluginInterface, EventSubscriberInterface
{
    public function activate(Composer $composer, IOInterface $io) {}
    public function deactivate(Composer $composer, IOInterface $io) {}
    public function uninstall(Composer $composer, IOInterface $io) {}

    public static function getSubscribedEvents()
    {
        return ['post-package-install' => ['package', 10], 'post-install-cmd' => ['root', 10]];
    }

    public function package(PackageEvent $event)
    {
        $package = $event->getOperation()->getPackage();
        $this->fetch($event->getComposer(), $package->getExtra(), $event->getComposer()->getInstallationManager()->getInstallPath($package));
    }

    public function root(Event $event)
    {
        $this->fetch($event->getComposer(), $event->getComposer()->getPackage()->getExtra(), '.');
    }

    private function fetch(Composer $composer, array $extra, ?string $folder)
    {
        $defaults = $extra['downloads']['*'] ?? [];
        foreach ($extra['downloads'] ?? [] as $id => $download) {
            if ($id === '*') {
                continue;
            }
            $download += $defaults;
            $put = fn ($text) => strtr($text, ['{$id}' => $id, '{$version}' => $download['version'] ?? '']);
            $kind = pathinfo($put($download['url']), PATHINFO_EXTENSION) === 'zip' ? 'zip' : 'file';
            $target = "$folder/" . $put($download['path']);
            $package = new Package("download/$id", '1.0.0.0', '1.0.0');
            $package->setDistType($kind);
            $package->setDistUrl($put($download['url']));
            $place = $kind === 'zip' ? $target : "$target.folder";
            $downloader = $composer->getDownloadManager()->getDownloader($kind);
            $loop = $composer->getLoop();
            foreach (['download' => [$package, $place], 'prepare' => ['install', $package, $place], 'install' => [$package, $place], 'cleanup' => ['install', $package, $place]] as $step => $arguments) {
                $loop->wait([$downloader->$step(...$arguments)]);
            }
            if ($kind === 'file') {
                @mkdir(dirname($target), 0777, true);
                rename(glob("$place/*")[0], $target);
                rmdir($place);
            }
        }
    }
}
