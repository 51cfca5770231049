# Written by packaging/homebrew/make_formula.py from the lock; do not edit.
class Omlx < Formula
  include Language::Python::Virtualenv

  desc "Coding agents on models you run yourself: a launcher and an MLX inference server"
  homepage "https://example.invalid"
  url "https://example.invalid/omlx-0.1.0.tar.gz"
  sha256 "0000000000000000000000000000000000000000000000000000000000000000"
  license "Apache-2.0"

  depends_on arch: :arm64
  depends_on macos: :sonoma
  depends_on "python@3.13"

  LOCK = "requirements/runtime.txt".freeze
  LOCK_SHA256 = "4b8bd88377af1c995ede072952e4ec4c1d5848616ece102c8cdc75e08cf4485a".freeze

  def install
    odie "the lock is not the one of this formula" if Digest::SHA256.file(LOCK).hexdigest != LOCK_SHA256

    virtualenv_create(libexec, "python3.13")
    pip = [Formula["python@3.13"].opt_bin/"python3.13", "-m", "pip", "--python", libexec/"bin/python", "install"]
    system(*pip, "--require-hashes", "--requirement", LOCK)
    system(*pip, "--no-deps", "--no-build-isolation", buildpath)
    bin.install_symlink libexec/"bin/omlx"
  end

  service do
    run [opt_bin/"omlx", "serve"]
    keep_alive successful_exit: false
    log_path var/"log/omlx.log"
    error_log_path var/"log/omlx.log"
    working_dir Dir.home
  end

  test do
    assert_match version.to_s, shell_output("#{bin}/omlx --version")
    assert_match "Usage: omlx serve", shell_output("#{bin}/omlx serve --help")
  end
end
