<?php

declare(strict_types=1);

namespace Civiparoisse\ComposerPatches;

use Composer\Composer;
use Composer\EventDispatcher\EventSubscriberInterface;
use Composer\Installer\PackageEvent;
use Composer\Installer\PackageEvents;
use Composer\DependencyResolver\Operation\InstallOperation;
use Composer\DependencyResolver\Operation\UpdateOperation;
use Composer\IO\IOInterface;
use Composer\Plugin\PluginInterface;
use Composer\Util\ProcessExecutor;

/** Patches a package as soon as it is unpacked. A patch that does not apply ends the installation. */
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
        return [PackageEvents::POST_PACKAGE_INSTALL => 'patch', PackageEvents::POST_PACKAGE_UPDATE => 'patch'];
    }

    public function patch(PackageEvent $event): void
    {
        $operation = $event->getOperation();
        $package = match (true) {
            $operation instanceof InstallOperation => $operation->getPackage(),
            $operation instanceof UpdateOperation => $operation->getTargetPackage(),
            default => null,
        };
        $composer = $event->getComposer();
        $patches = $package === null ? [] : $composer->getPackage()->getExtra()['patches'][$package->getName()] ?? [];
        foreach ($patches as $title => $address) {
            $event->getIO()->write("  - Patching <info>{$package->getName()}</info>: $title");
            $place = $composer->getInstallationManager()->getInstallPath($package);
            $file = tempnam(sys_get_temp_dir(), 'patch');
            try {
                if (!copy($address, $file)) {
                    throw new \RuntimeException("the patch `$address` cannot be read");
                }
                $command = ['patch', '-p1', '--batch', '--forward', '--no-backup-if-mismatch', '-d', $place, '-i', $file];
                $process = new ProcessExecutor($event->getIO());
                if ($process->execute($command, $said) !== 0) {
                    throw new \RuntimeException("the patch `$title` does not apply to `{$package->getName()}`:\n$said");
                }
            } finally {
                unlink($file);
            }
        }
    }
}
