<?php

declare(strict_types=1);

namespace Civiparoisse\ComposerDownloads;

use Composer\Composer;
use Composer\EventDispatcher\EventSubscriberInterface;
use Composer\IO\IOInterface;
use Composer\Plugin\PluginInterface;
use Composer\Script\Event;
use Composer\Script\ScriptEvents;

/** Unpacks each archive of `extra.downloads` into its package, after everything is installed. */
final class Plugin implements PluginInterface, EventSubscriberInterface
{
    public function activate(Composer $composer, IOInterface $io): void
    {
    }

    public function deactivate(Composer $composer, IOInterface $io): void
    {
    }

    public function uninstall(Composer $composer, IOInterface $io): void
    {
    }

    public static function getSubscribedEvents(): array
    {
        return [ScriptEvents::POST_INSTALL_CMD => 'fetch', ScriptEvents::POST_UPDATE_CMD => 'fetch'];
    }

    public function fetch(Event $event): void
    {
        $composer = $event->getComposer();
        $installed = $composer->getRepositoryManager()->getLocalRepository()->getCanonicalPackages();
        foreach ($installed as $package) {
            $downloads = $package->getExtra()['downloads'] ?? [];
            $place = $composer->getInstallationManager()->getInstallPath($package);
            foreach ($downloads as $id => $download) {
                if ($id === '*' || $place === null) {
                    continue;
                }
                $download += $downloads['*'] ?? [];
                $address = strtr($download['url'], ['{$id}' => $id, '{$version}' => $download['version'] ?? '']);
                $event->getIO()->write("  - Downloading <info>$id</info> of <info>{$package->getName()}</info>");
                self::unpack($address, "$place/{$download['path']}");
            }
        }
    }

    private static function unpack(string $address, string $folder): void
    {
        $file = tempnam(sys_get_temp_dir(), 'download');
        $archive = new \ZipArchive();
        try {
            if (!copy($address, $file) || $archive->open($file, \ZipArchive::RDONLY) !== true) {
                throw new \RuntimeException("`$address` is not a zip archive");
            }
            for ($index = 0; $index < $archive->numFiles; $index++) {
                $name = (string) $archive->getNameIndex($index);
                if ($name === '' || $name[0] === '/' || str_contains($name, '\\') || in_array('..', explode('/', $name), true)) {
                    throw new \RuntimeException("`$address` holds the path `$name`, which leaves its folder");
                }
            }
            if (!$archive->extractTo($folder)) {
                throw new \RuntimeException("`$address` cannot be unpacked");
            }
            $archive->close();
        } finally {
            unlink($file);
        }
    }
}
