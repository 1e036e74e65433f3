<?php
// A stand-in: puts what Drupal is made of where `installer-paths` says.

namespace Composer\Installers;

use Composer\Composer;
use Composer\Installer\LibraryInstaller;
use Composer\IO\IOInterface;
use Composer\Package\PackageInterface;
use Composer\Plugin\PluginInterface;

class Plugin implements PluginInterface
{
    public function activate(Composer $composer, IOInterface $io)
    {
        $composer->getInstallationManager()->addInstaller(new Installer($io, $composer));
    }

    public function deactivate(Composer $composer, IOInterface $io) {}
    public function uninstall(Composer $composer, IOInterface $io) {}
}

class Installer extends LibraryInstaller
{
    public function supports(string $type): bool
    {
        return str_starts_with($type, 'drupal-');
    }

    public function getInstallPath(PackageInterface $package): string
    {
        $name = $package->getExtra()['installer-name'] ?? explode('/', $package->getPrettyName())[1];
        foreach ($this->composer->getPackage()->getExtra()['installer-paths'] as $path => $kinds) {
            if (in_array('type:' . $package->getType(), $kinds, true)) {
                return str_replace('{$name}', $name, $path);
            }
        }
        throw new \InvalidArgumentException("no path for {$package->getType()}");
    }
}
