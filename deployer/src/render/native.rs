//! Overlays become YAML without any program.

use std::cell::{Cell, OnceCell};
use std::future::Future;
use std::pin::Pin;

use kiln_kustomize::{
    Build, Checkout, DiskFiles, FetchError, GitRemotes, Kustomizer, LoadRestrictions, NoRemotes,
    Options, Remotes, Reorder, Repository,
};

use super::dependencies;
use super::kustomize::{
    CommandKustomize, Inputs, Kustomize, KustomizeError, Overlay, Text, is_remote,
};

/// Renders overlays with Kiln's own renderer; what only the program can do,
/// such as charts, goes to the program.
#[derive(Debug, Clone)]
pub struct NativeKustomize {
    program: CommandKustomize,
}

/// What is made of the documents of an overlay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// One text.
    Together,
    /// A file for each as well.
    Separate,
}

impl NativeKustomize {
    /// With a program for the rest.
    #[must_use]
    pub fn new(program: CommandKustomize) -> Self {
        Self { program }
    }

    /// Renders without a program; [`None`] where only the program can, and
    /// there is one.
    ///
    /// # Errors
    /// If the overlay is wrong, or needs a program and there is none.
    pub async fn render(
        &self,
        overlay: &Overlay,
        form: Form,
    ) -> Result<Option<Build>, KustomizeError> {
        let mut options = match options(&overlay.build_args) {
            Ok(options) => options,
            Err(_) if self.has_program() => return Ok(None),
            Err(flag) => {
                return Err(KustomizeError::Flag {
                    overlay: overlay.path.clone(),
                    flag,
                });
            }
        };
        options.separate_documents = form == Form::Separate;
        let path = overlay.path.clone();
        let remotes = Network {
            runtime: tokio::runtime::Handle::current(),
            http: OnceCell::new(),
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
            Ok(Ok(build)) => Ok(Some(build)),
            Ok(Err(refused)) => {
                if refused.error.not_native().is_some() && self.has_program() {
                    return Ok(None);
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

    fn has_program(&self) -> bool {
        self.program != CommandKustomize::Missing
    }

    async fn run(&self, overlay: &Overlay) -> Result<Text, KustomizeError> {
        match self.render(overlay, Form::Together).await? {
            Some(build) => Ok(Text {
                yaml: build.yaml,
                warnings: build.warnings,
            }),
            None => self.program.build(overlay).await,
        }
    }
}

impl Kustomize for NativeKustomize {
    fn build<'a>(
        &'a self,
        overlay: &'a Overlay,
    ) -> Pin<Box<dyn Future<Output = Result<Text, KustomizeError>> + Send + 'a>> {
        Box::pin(self.run(overlay))
    }

    /// What the renderer reads. It takes a few milliseconds to render, so that
    /// is done to find out; where it cannot be done without other machines or
    /// the program, what the overlay names counts.
    fn inputs(&self, overlay: &Overlay) -> Inputs {
        if is_remote(&overlay.path) {
            return Inputs::default();
        }
        let Ok(options) = options(&overlay.build_args) else {
            return dependencies::of_overlay(overlay);
        };
        let elsewhere = Elsewhere::default();
        let result = Kustomizer::new(&DiskFiles)
            .with_remotes(&elsewhere)
            .with_options(options)
            .build(&overlay.path);
        match result {
            Ok(build) => Inputs {
                files: build.files,
                trouble: None,
            },
            Err(refused) if elsewhere.asked.get() || refused.error.not_native().is_some() => {
                dependencies::of_overlay(overlay)
            }
            Err(refused) => Inputs {
                files: refused.files,
                trouble: Some(KustomizeError::Native {
                    overlay: overlay.path.clone(),
                    source: refused.error,
                }),
            },
        }
    }
}

/// Flags of `kustomize build` for what only the program does. Without such
/// things in the kustomization they change nothing, so the renderer may leave
/// them alone; with them, the program gets the flags.
const SWITCHES: [&str; 6] = [
    "--as-current-user",
    "--enable-alpha-plugins",
    "--enable-exec",
    "--enable-helm",
    "--helm-debug",
    "--network",
];

/// The same with values.
const VALUES: [&str; 7] = [
    "--env",
    "--helm-api-versions",
    "--helm-command",
    "--helm-kube-version",
    "--mount",
    "--network-name",
    "-e",
];

/// The flags of `kustomize build` that decide what is rendered; an error is a
/// flag that the renderer does not know, or not with its value.
fn options(args: &[String]) -> Result<Options, String> {
    let mut options = Options::default();
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let (flag, value) = arg
            .split_once('=')
            .map_or((arg.as_str(), None), |(f, v)| (f, Some(v)));
        let unknown = || arg.clone();
        let mut needed = || value.or_else(|| args.next().map(String::as_str));
        match flag {
            "--load-restrictor" => {
                options.load_restrictions = match needed().ok_or_else(unknown)? {
                    "LoadRestrictionsNone" => LoadRestrictions::None,
                    "LoadRestrictionsRootOnly" => LoadRestrictions::RootOnly,
                    _ => return Err(unknown()),
                };
            }
            "--reorder" => {
                options.reorder = match needed().ok_or_else(unknown)? {
                    "none" => Reorder::None,
                    "legacy" => Reorder::Legacy,
                    _ => return Err(unknown()),
                };
            }
            "--enable-managedby-label" => {
                options.managed_by_label = value.is_none_or(|value| value == "true");
            }
            _ if SWITCHES.contains(&flag) => {}
            _ if VALUES.contains(&flag) => drop(needed().ok_or_else(unknown)?),
            _ => return Err(unknown()),
        }
    }
    Ok(options)
}

/// Notes whether another machine would have been asked, and asks none.
#[derive(Default)]
struct Elsewhere {
    asked: Cell<bool>,
}

impl Remotes for Elsewhere {
    fn fetch(&self, url: &str) -> Result<Vec<u8>, FetchError> {
        self.asked.set(true);
        NoRemotes.fetch(url)
    }

    fn checkout(&self, repository: &Repository) -> Result<Checkout, String> {
        self.asked.set(true);
        NoRemotes.checkout(repository)
    }
}

/// Files by HTTP, repositories by git.
struct Network {
    runtime: tokio::runtime::Handle,
    /// Made when it is needed, which it seldom is: it starts the TLS library.
    http: OnceCell<reqwest::Client>,
    git: GitRemotes,
}

impl Remotes for Network {
    fn fetch(&self, url: &str) -> Result<Vec<u8>, FetchError> {
        let http = self.http.get_or_init(reqwest::Client::new);
        self.runtime.block_on(async {
            let other = |error: reqwest::Error| FetchError::Other(error.to_string());
            let answer = http.get(url).send().await.map_err(other)?;
            if !answer.status().is_success() {
                return Err(FetchError::Status(answer.status().as_u16()));
            }
            Ok(answer.bytes().await.map_err(other)?.to_vec())
        })
    }

    fn checkout(&self, repository: &Repository) -> Result<Checkout, String> {
        self.git.checkout(repository)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn without_program() -> NativeKustomize {
        NativeKustomize::new(CommandKustomize::Missing)
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
            .unwrap()
            .yaml;
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
            .build(&overlay(dir.path(), &["--enable-helm", "--dance=slow"]))
            .await
            .unwrap_err();
        assert!(
            error.to_string().contains("the flag `--dance=slow` needs"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn flags_for_plugins_change_nothing_where_there_are_none() {
        let dir = tempfile::tempdir().unwrap();
        let text = "configMapGenerator: [{name: a, literals: [x=y]}]\n";
        std::fs::write(dir.path().join("kustomization.yaml"), text).unwrap();
        let native = without_program();
        let plain = native.build(&overlay(dir.path(), &[])).await.unwrap();
        let flags = ["--enable-helm", "--helm-command", "helm3", "-e", "A=b"];
        let with = native.build(&overlay(dir.path(), &flags)).await.unwrap();
        assert_eq!(with, plain);
    }

    fn names(dir: &std::path::Path, inputs: &Inputs) -> Vec<String> {
        let dir = dir.canonicalize().unwrap();
        inputs
            .files
            .iter()
            .map(|file| file.strip_prefix(&dir).unwrap().display().to_string())
            .collect()
    }

    #[test]
    fn what_is_read_is_what_is_watched() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).unwrap();
        // A file that only a transformer's configuration names.
        put(
            "kustomization.yaml",
            "resources: [map.yaml]\ntransformers: [patch.yaml]\n",
        );
        put(
            "map.yaml",
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n",
        );
        put(
            "patch.yaml",
            "apiVersion: builtin\nkind: PatchTransformer\nmetadata: {name: p}\npath: deep.yaml\ntarget: {kind: ConfigMap}\n",
        );
        let native = without_program();
        let inputs = native.inputs(&overlay(dir.path(), &[]));
        let expected = ["deep.yaml", "kustomization.yaml", "map.yaml", "patch.yaml"];
        assert_eq!(names(dir.path(), &inputs), expected);
        let chain = |inputs: &Inputs| match &inputs.trouble {
            Some(KustomizeError::Native { source, .. }) => source.chain(),
            other => panic!("{other:?}"),
        };
        assert!(chain(&inputs).contains("deep.yaml"), "{}", chain(&inputs));
        put("deep.yaml", "- {op: add, path: /data, value: {a: b}}\n");
        let inputs = native.inputs(&overlay(dir.path(), &[]));
        assert!(inputs.trouble.is_none(), "{:?}", inputs.trouble);
        assert_eq!(names(dir.path(), &inputs), expected);
    }

    #[test]
    fn bases_on_other_machines_are_not_fetched_to_know_what_to_watch() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(
            dir.path().join("kustomization.yaml"),
            "resources: ['https://example.invalid/a.yaml', b.yaml]\npatches: [{path: c.yaml}]\n",
        )
        .unwrap();
        let inputs = without_program().inputs(&overlay(dir.path(), &[]));
        assert!(inputs.trouble.is_none(), "{:?}", inputs.trouble);
        assert_eq!(
            names(dir.path(), &inputs),
            ["b.yaml", "c.yaml", "kustomization.yaml"]
        );
    }
}
