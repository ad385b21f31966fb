//! Overlays become YAML without any program.

use std::future::Future;
use std::pin::Pin;

use kiln_kustomize::{
    DiskFiles, FetchError, GitRemotes, Kustomizer, LoadRestrictions, Options, Remotes, Reorder,
};

use super::kustomize::{CommandKustomize, Kustomize, KustomizeError, Overlay};

/// Renders overlays with Kiln's own renderer; what only the program can do,
/// such as charts, goes to the program.
#[derive(Debug, Clone)]
pub struct NativeKustomize {
    program: CommandKustomize,
    http: reqwest::Client,
}

impl NativeKustomize {
    /// With a program for the rest, and a client for remote files.
    #[must_use]
    pub fn new(program: CommandKustomize, http: reqwest::Client) -> Self {
        Self { program, http }
    }

    async fn run(&self, overlay: &Overlay) -> Result<String, KustomizeError> {
        let Some(options) = options(&overlay.build_args) else {
            return self.program.build(overlay).await;
        };
        let path = overlay.path.clone();
        let remotes = Network {
            http: self.http.clone(),
            runtime: tokio::runtime::Handle::current(),
            git: GitRemotes::default(),
        };
        let result = tokio::task::spawn_blocking(move || {
            Kustomizer::new(&DiskFiles)
                .with_remotes(&remotes)
                .with_options(options)
                .build(&path)
        })
        .await;
        match result {
            Ok(Ok(build)) => Ok(build.yaml),
            Ok(Err(refused)) => {
                let installed = self.program != CommandKustomize::Missing;
                if refused.error.not_native().is_some() && installed {
                    return self.program.build(overlay).await;
                }
                Err(KustomizeError::Native {
                    overlay: overlay.path.clone(),
                    source: refused.error,
                })
            }
            Err(error) => Err(KustomizeError::Refused {
                overlay: overlay.path.clone(),
                message: error.to_string(),
            }),
        }
    }
}

impl Kustomize for NativeKustomize {
    fn build<'a>(
        &'a self,
        overlay: &'a Overlay,
    ) -> Pin<Box<dyn Future<Output = Result<String, KustomizeError>> + Send + 'a>> {
        Box::pin(self.run(overlay))
    }
}

/// The flags of `kustomize build` that the renderer knows; [`None`] if there
/// are others.
fn options(args: &[String]) -> Option<Options> {
    let mut options = Options::default();
    let mut args = args.iter().map(String::as_str);
    while let Some(arg) = args.next() {
        let (flag, value) = arg
            .split_once('=')
            .map_or((arg, None), |(f, v)| (f, Some(v)));
        match flag {
            "--load-restrictor" => {
                options.load_restrictions = match value.or_else(|| args.next())? {
                    "LoadRestrictionsNone" => LoadRestrictions::None,
                    "LoadRestrictionsRootOnly" => LoadRestrictions::RootOnly,
                    _ => return None,
                };
            }
            "--reorder" => {
                options.reorder = match value.or_else(|| args.next())? {
                    "none" => Reorder::None,
                    "legacy" => Reorder::Legacy,
                    _ => return None,
                };
            }
            "--enable-managedby-label" => {
                options.managed_by_label = value.is_none_or(|value| value == "true");
            }
            _ => return None,
        }
    }
    Some(options)
}

/// Files by HTTP, repositories by git.
struct Network {
    http: reqwest::Client,
    runtime: tokio::runtime::Handle,
    git: GitRemotes,
}

impl Remotes for Network {
    fn fetch(&self, url: &str) -> Result<Vec<u8>, FetchError> {
        self.runtime.block_on(async {
            let other = |error: reqwest::Error| FetchError::Other(error.to_string());
            let answer = self.http.get(url).send().await.map_err(other)?;
            if !answer.status().is_success() {
                return Err(FetchError::Status(answer.status().as_u16()));
            }
            Ok(answer.bytes().await.map_err(other)?.to_vec())
        })
    }

    fn checkout(
        &self,
        repository: &kiln_kustomize::Repository,
    ) -> Result<kiln_kustomize::Checkout, String> {
        self.git.checkout(repository)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn without_program() -> NativeKustomize {
        // As the command line does; the first of these tests wins.
        drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
        NativeKustomize::new(CommandKustomize::Missing, reqwest::Client::new())
    }

    fn overlay(dir: &std::path::Path, args: &[&str]) -> Overlay {
        Overlay {
            path: dir.to_string_lossy().into_owned(),
            build_args: args.iter().map(|arg| (*arg).to_owned()).collect(),
        }
    }

    #[tokio::test]
    async fn overlays_need_no_program() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(
            dir.path().join("kustomization.yaml"),
            "namePrefix: p-\nconfigMapGenerator: [{name: a, literals: [x=y], options: {disableNameSuffixHash: true}}]\n",
        )
        .unwrap();
        let native = without_program();
        let text = native
            .build(&overlay(dir.path(), &["--reorder", "none"]))
            .await
            .unwrap();
        assert!(text.contains("name: p-a"), "{text}");
    }

    #[tokio::test]
    async fn what_only_the_program_can_do_needs_it() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(
            dir.path().join("kustomization.yaml"),
            "helmCharts: [{name: x}]\n",
        )
        .unwrap();
        let native = without_program();
        let error = native.build(&overlay(dir.path(), &[])).await.unwrap_err();
        assert!(error.to_string().contains("cannot render"), "{error}");
        let KustomizeError::Native { source, .. } = error else {
            panic!("{error}");
        };
        assert!(source.chain().contains("need the kustomize program"));
        let error = native
            .build(&overlay(dir.path(), &["--enable-helm"]))
            .await
            .unwrap_err();
        assert!(matches!(error, KustomizeError::NotInstalled), "{error}");
    }
}
