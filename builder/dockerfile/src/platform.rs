//! Platforms and the arguments that describe them.

use std::fmt;

/// A platform as `os/arch[/variant]`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Platform {
    /// For example `linux`.
    pub os: String,
    /// For example `amd64`.
    pub arch: String,
    /// For example `v7`; empty when there is none.
    pub variant: String,
}

/// Why a text is no platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no platform; write os/arch or os/arch/variant, for example linux/arm64")]
pub struct PlatformError(pub String);

impl Platform {
    /// Reads `os/arch`, `os/arch/variant`, or `arch` alone (then the OS is `linux`), and
    /// normalises as containerd does: `x86_64` is `amd64`, `aarch64` is `arm64`, `armhf` is
    /// `arm/v7`, `arm` without a variant is `v7`, and the `v8` of `arm64` is left out.
    pub fn parse(text: &str) -> Result<Self, PlatformError> {
        let error = || PlatformError(text.to_owned());
        let lower = text.to_ascii_lowercase();
        let parts: Vec<&str> = lower.split('/').collect();
        let word = |part: &str| {
            !part.is_empty()
                && part
                    .chars()
                    .all(|ch| ch.is_ascii_alphanumeric() || matches!(ch, '_' | '-' | '.'))
        };
        if !parts.iter().all(|part| word(part)) {
            return Err(error());
        }
        let (os, arch, variant) = match parts[..] {
            [arch] if KNOWN_ARCHITECTURES.contains(&arch) => ("linux", arch, ""),
            [os, arch] => (os, arch, ""),
            [os, arch, variant] => (os, arch, variant),
            _ => return Err(error()),
        };
        let (arch, variant) = normalise(arch, variant);
        let os = if os == "macos" { "darwin" } else { os };
        Ok(Self {
            os: os.to_owned(),
            arch: arch.to_owned(),
            variant: variant.to_owned(),
        })
    }

    /// The eleven automatic arguments for a build on `build` for `target`, in the order of the
    /// reference manual; `stage` is the requested target stage, `default` when none was.
    /// <https://docs.docker.com/reference/dockerfile/#automatic-platform-args-in-the-global-scope>
    pub fn automatic_args(
        build: &Self,
        target: &Self,
        stage: Option<&str>,
    ) -> Vec<(&'static str, String)> {
        vec![
            ("BUILDPLATFORM", build.to_string()),
            ("BUILDOS", build.os.clone()),
            ("BUILDOSVERSION", String::new()),
            ("BUILDARCH", build.arch.clone()),
            ("BUILDVARIANT", build.variant.clone()),
            ("TARGETPLATFORM", target.to_string()),
            ("TARGETOS", target.os.clone()),
            ("TARGETOSVERSION", String::new()),
            ("TARGETARCH", target.arch.clone()),
            ("TARGETVARIANT", target.variant.clone()),
            ("TARGETSTAGE", stage.unwrap_or("default").to_owned()),
        ]
    }
}

const KNOWN_ARCHITECTURES: [&str; 16] = [
    "386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc64",
    "ppc64le", "riscv64", "s390x", "x86_64", "aarch64", "armhf",
];

fn normalise<'a>(arch: &'a str, variant: &'a str) -> (&'a str, &'a str) {
    match (arch, variant) {
        ("i386", _) => ("386", ""),
        ("x86_64" | "x86-64" | "amd64", "v1") => ("amd64", ""),
        ("x86_64" | "x86-64", variant) => ("amd64", variant),
        ("aarch64" | "arm64", "8" | "v8") => ("arm64", ""),
        ("aarch64", variant) => ("arm64", variant),
        ("armhf", _) => ("arm", "v7"),
        ("armel", _) => ("arm", "v6"),
        ("arm", "" | "7") => ("arm", "v7"),
        ("arm", "5") => ("arm", "v5"),
        ("arm", "6") => ("arm", "v6"),
        ("arm", "8") => ("arm", "v8"),
        other => other,
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.os, self.arch)?;
        if self.variant.is_empty() {
            Ok(())
        } else {
            write!(f, "/{}", self.variant)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table of `containerd/platforms` (`platforms_test.go`, `TestParseSelector`).
    #[test]
    fn names_are_normalised_as_containerd_does() {
        for (text, expected) in [
            ("linux/amd64", "linux/amd64"),
            ("linux/x86_64", "linux/amd64"),
            ("x86_64", "linux/amd64"),
            ("linux/aarch64", "linux/arm64"),
            ("linux/arm64/v8", "linux/arm64"),
            ("linux/arm", "linux/arm/v7"),
            ("linux/armhf", "linux/arm/v7"),
            ("linux/arm/v6", "linux/arm/v6"),
            ("LINUX/S390X", "linux/s390x"),
            ("macOS/arm64", "darwin/arm64"),
        ] {
            assert_eq!(
                Platform::parse(text).map(|p| p.to_string()).as_deref(),
                Ok(expected)
            );
        }
    }

    #[test]
    fn what_is_no_platform_is_refused() {
        for text in [
            "",
            "linux/",
            "/amd64",
            "a/b/c/d",
            "linux/$ARCH",
            "lin ux/amd64",
        ] {
            assert_eq!(
                Platform::parse(text),
                Err(PlatformError(text.to_owned())),
                "{text:?}"
            );
        }
    }
}
