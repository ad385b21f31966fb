use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};

use kiln_dockerfile::platform::Platform;

use super::*;

/// A context in a temporary folder.
struct Context {
    folder: tempfile::TempDir,
    args: BTreeMap<String, String>,
    target: Option<String>,
    knowledge: OnbuildKnowledge,
}

impl Context {
    /// With these files; their content is their path.
    fn new(files: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let context = Self {
            folder,
            args: BTreeMap::new(),
            target: None,
            knowledge: OnbuildKnowledge::None,
        };
        files.iter().for_each(|file| context.write(file, file));
        context
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("context")
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().expect("below the root")).expect("a folder");
        fs::write(path, text).expect("a file");
    }

    fn arg(mut self, name: &str, value: &str) -> Self {
        self.args.insert(name.to_owned(), value.to_owned());
        self
    }

    fn find(&self, dockerfile: &str) -> Result<Sources, SourcesError> {
        self.write("Dockerfile", dockerfile);
        self.find_at(&self.root().join("Dockerfile"))
    }

    fn find_at(&self, dockerfile_path: &Path) -> Result<Sources, SourcesError> {
        let text = fs::read_to_string(dockerfile_path).expect("the Dockerfile is there");
        let platform = Platform::parse("linux/amd64").expect("a platform");
        let request = Request {
            context: &self.root(),
            dockerfile_path,
            dockerfile: &kiln_dockerfile::parse(&text).expect(&text),
            build_args: &self.args,
            build: &BuildFor {
                build: platform.clone(),
                target: platform,
                stage: self.target.clone(),
            },
            pod_context: "/kaniko/buildcontext",
        };
        find(&request, &|_| self.knowledge.clone())
    }

    /// The paths of the sources without the Dockerfile and the folders.
    fn files(&self, dockerfile: &str) -> Vec<String> {
        let sources = self.find(dockerfile).expect(dockerfile);
        assert_eq!(sources.whole_context, None, "{dockerfile}");
        names(&sources)
    }

    fn reason(&self, dockerfile: &str) -> Option<String> {
        let sources = self.find(dockerfile).expect(dockerfile);
        sources.whole_context.map(|reason| reason.to_string())
    }

    fn digest(&self, dockerfile: &str) -> [u8; 32] {
        let mut hashes = HashCache::open(self.folder.path().join("hashes"));
        let sources = self.find(dockerfile).expect(dockerfile);
        sources
            .digest(&mut hashes)
            .expect("all sources can be read")
    }
}

fn names(sources: &Sources) -> Vec<String> {
    let files = sources
        .files
        .iter()
        .filter(|file| file.kind != FileKind::Folder);
    let names = files.map(|file| file.path.to_string_lossy().into_owned());
    names.filter(|name| name != "Dockerfile").collect()
}

const PROJECT: &[&str] = &[
    "README.md",
    "go.mod",
    "go.sum",
    "cmd/app/main.go",
    "cmd/app/main_test.go",
    "cmd/tool/main.go",
    "docs/guide.md",
    "docs/img/a.png",
    "web/index.html",
];

#[test]
fn only_what_the_dockerfile_reads_belongs_to_it() {
    let context = Context::new(PROJECT);
    for (dockerfile, expected) in [
        ("FROM a", &[][..]),
        ("FROM a\nCOPY go.mod go.sum ./", &["go.mod", "go.sum"]),
        ("FROM a\nCOPY ./go.* /x/", &["go.mod", "go.sum"]),
        ("FROM a\nCOPY [\"/go.mod\", \"/x\"]", &["go.mod"]),
        ("FROM a\nADD cmd/tool /x", &["cmd/tool/main.go"]),
        ("FROM a\nCOPY ../../web/ /x", &["web/index.html"]),
        (
            "FROM a\nCOPY cmd/*/main.go /x/",
            &["cmd/app/main.go", "cmd/tool/main.go"],
        ),
        ("FROM a\nCOPY **/guide.md /x/", &["docs/guide.md"]),
        ("FROM a\nCOPY no*thing go.mod /x/", &["go.mod"]),
        ("FROM a\nCOPY c[lm]d/t?ol /x/", &["cmd/tool/main.go"]),
        (
            "FROM a\nCOPY --parents **/*.go /x/",
            &[
                "cmd/app/main.go",
                "cmd/app/main_test.go",
                "cmd/tool/main.go",
            ],
        ),
        (
            "FROM a\nCOPY --parents docs/./img/*.png /x/",
            &["docs/img/a.png"],
        ),
        ("FROM a\nCOPY --parents docs/img /x/", &["docs/img/a.png"]),
        (
            "FROM a\nCOPY --exclude=**/*_test.go --exclude=tool cmd /x/",
            &["cmd/app/main.go"],
        ),
        (
            "FROM a\nCOPY --exclude=* --exclude=!img docs /x/",
            &["docs/img/a.png"],
        ),
        ("FROM a\nCOPY --from=other /go.mod /x", &[]),
        ("FROM a\nCOPY <<go.mod /x\ngo.mod\n", &[]),
        (
            "FROM a\nADD https://example.com/go.mod git@github.com:o/r.git /x/",
            &[],
        ),
        (
            "FROM a\nADD https://github.com/o/r.git#main go.sum /x/",
            &["go.sum"],
        ),
        (
            "FROM a\nRUN --mount=target=/x,source=docs ls",
            &["docs/guide.md", "docs/img/a.png"],
        ),
        ("FROM a\nRUN --mount=type=cache,target=/docs ls", &[]),
        (
            "FROM a\nRUN --mount=from=other,source=docs,target=/x ls",
            &[],
        ),
        (
            "FROM a AS b\nCOPY go.mod /\nFROM a\nCOPY go.sum /",
            &["go.sum"],
        ),
        (
            "FROM a AS b\nCOPY go.mod /\nFROM a\nCOPY --from=b /go.mod /\nCOPY go.sum /",
            &["go.mod", "go.sum"],
        ),
        ("FROM a AS b\nONBUILD COPY go.mod /\nFROM b", &["go.mod"]),
        ("FROM a\nONBUILD COPY go.mod /", &[]),
    ] {
        assert_eq!(context.files(dockerfile), expected, "{dockerfile}");
    }
    assert_eq!(context.files("FROM a\nCOPY . /").len(), PROJECT.len());
    assert_eq!(
        context.files("FROM a\nRUN --mount=target=/x ls").len(),
        PROJECT.len()
    );
}

#[test]
fn arguments_are_expanded_as_in_the_build() {
    let context = Context::new(PROJECT)
        .arg("APP", "tool")
        .arg("BASE", "second");
    for (dockerfile, expected) in [
        (
            "FROM a\nARG APP=app\nCOPY cmd/$APP /",
            &["cmd/tool/main.go"][..],
        ),
        (
            "ARG APP\nFROM a\nARG APP\nCOPY cmd/${APP%x} /",
            &["cmd/tool/main.go"],
        ),
        (
            "FROM a\nENV DIR=docs\nCOPY ${DIR}/*.md /",
            &["docs/guide.md"],
        ),
        ("FROM scratch\nCOPY go.mod$none /", &["go.mod"]),
        ("FROM a\nCOPY ${none:-go.sum} /", &["go.sum"]),
        (
            "ARG BASE=first\nFROM a AS first\nCOPY go.mod /\nFROM a AS second\nCOPY go.sum /\n\
             FROM $BASE",
            &["go.sum"],
        ),
        (
            "FROM a AS b\nARG APP\nFROM b\nCOPY cmd/$APP /",
            &["cmd/tool/main.go"],
        ),
        (
            "FROM a\nARG TARGETARCH\nCOPY go.mod${TARGETARCH#amd64} /",
            &["go.mod"],
        ),
    ] {
        assert_eq!(context.files(dockerfile), expected, "{dockerfile}");
    }
}

#[test]
fn the_target_decides_which_stages_count() {
    let mut context = Context::new(PROJECT);
    let dockerfile = "FROM a AS dev\nCOPY go.mod /\nFROM a AS prod\nCOPY go.sum /";
    context.target = Some("dev".to_owned());
    assert_eq!(context.files(dockerfile), ["go.mod"]);
    context.target = Some("other".to_owned());
    let error = context
        .find(dockerfile)
        .expect_err("there is no such stage");
    assert_eq!(
        error.to_string(),
        "there is no stage `other`; the stages are dev, prod"
    );
}

#[test]
fn what_is_not_there_is_reported_with_its_line() {
    let context = Context::new(PROJECT);
    let root = context.root();
    for (dockerfile, message) in [
        (
            "FROM a\n\nCOPY go.mdo /",
            "line 3 of the Dockerfile: `go.mdo` is not in the context",
        ),
        (
            "FROM a\nADD cmd/none/x /",
            "line 2 of the Dockerfile: `cmd/none/x` is not in the context",
        ),
        (
            "FROM a\nCOPY go.mod/x /",
            "line 2 of the Dockerfile: `go.mod/x` is not in the context",
        ),
        (
            "FROM a\nCOPY --parents docs/./none /",
            "line 2 of the Dockerfile: `docs/none` is not in the context",
        ),
        (
            "FROM a\nRUN --mount=source=none,target=/x ls",
            "line 2 of the Dockerfile: `none` is not in the context",
        ),
    ] {
        let error = context.find(dockerfile).expect_err(dockerfile);
        assert_eq!(error.to_string(), format!("{message} {}", root.display()));
    }
    context.write(".dockerignore", "# no modules\ngo.*\n");
    let error = context
        .find("FROM a\nCOPY go.mod /")
        .expect_err("it is ignored");
    let message = format!(
        "line 2 of the Dockerfile: `go.mod` is left out by `go.*`, line 2 of {}",
        root.join(".dockerignore").display()
    );
    assert_eq!(error.to_string(), message);
}

#[test]
fn everything_belongs_to_it_when_the_text_cannot_tell() {
    let context = Context::new(PROJECT).arg("CI_PROJECT_DIR", "/kaniko/buildcontext");
    for (dockerfile, reason) in [
        (
            "FROM a\nARG CI_PROJECT_DIR\nWORKDIR $CI_PROJECT_DIR/web",
            "WORKDIR in line 3 uses the context's own folder in the pod",
        ),
        (
            "FROM a\nWORKDIR /kaniko\nWORKDIR buildcontext",
            "WORKDIR in line 3 uses the context's own folder in the pod",
        ),
        (
            "FROM a\nRUN ls /kaniko/buildcontext/web",
            "RUN in line 2 uses the context's own folder in the pod",
        ),
        (
            "FROM a\nRUN <<E\ncd /kaniko/buildcontext\nE",
            "RUN in line 2 uses the context's own folder in the pod",
        ),
        (
            "FROM a\nARG CI_PROJECT_DIR\nRUN ./script",
            "RUN in line 3 sees the context's own folder in `CI_PROJECT_DIR`",
        ),
        (
            "FROM a AS b\nFROM a\nARG CI_PROJECT_DIR\nCOPY --from=b $CI_PROJECT_DIR/x /",
            "COPY in line 4 uses the context's own folder in the pod",
        ),
        (
            "FROM a\nCOPY $HOME/x /",
            "only the base image can say what `HOME` in line 2 is",
        ),
        (
            "FROM a\nRUN --mount=source=$DIR,target=/x ls",
            "only the base image can say what `DIR` in line 2 is",
        ),
    ] {
        assert_eq!(
            context.reason(dockerfile).as_deref(),
            Some(reason),
            "{dockerfile}"
        );
        assert_eq!(
            names(&context.find(dockerfile).expect(dockerfile)).len(),
            PROJECT.len()
        );
    }
    for dockerfile in [
        "FROM a\nARG CI_PROJECT_DIR\nWORKDIR /x",
        "FROM a\nRUN ls /kaniko/buildcontext2 /kaniko",
        "FROM a\nWORKDIR /kaniko",
        "FROM a AS unused\nWORKDIR /kaniko/buildcontext\nFROM a",
    ] {
        assert_eq!(context.reason(dockerfile), None, "{dockerfile}");
    }
}

#[test]
fn triggers_of_the_base_count() {
    let mut context = Context::new(PROJECT);
    let triggers = |triggers: &[&str]| {
        OnbuildKnowledge::Triggers(
            triggers
                .iter()
                .map(|trigger| (*trigger).to_owned())
                .collect(),
        )
    };
    context.knowledge = triggers(&["ARG FILE=go.mod", "COPY $FILE /", "RUN make"]);
    assert_eq!(context.files("FROM a\nCOPY go.sum /"), ["go.mod", "go.sum"]);
    context.knowledge = triggers(&["COPY --from=lib /x /"]);
    let with_stage = "FROM scratch AS lib\nCOPY go.sum /\nFROM a";
    assert_eq!(context.files(with_stage), ["go.sum"]);
    context.knowledge = OnbuildKnowledge::Unknown;
    let reason = context.reason("ARG V=1\nFROM node:$V");
    assert_eq!(
        reason.as_deref(),
        Some("the ONBUILD triggers of `node:1` (line 2) are not known yet")
    );
    assert_eq!(context.files("FROM scratch\nCOPY go.mod /"), ["go.mod"]);
    context.knowledge = triggers(&["FROM x"]);
    let reason = context.reason("FROM a");
    assert_eq!(
        reason.as_deref(),
        Some("the ONBUILD trigger `FROM x` of the base in line 1 is not valid")
    );
}

#[test]
fn the_ignore_files_are_in_force() {
    let context = Context::new(PROJECT);
    context.write(
        ".dockerignore",
        "**\n!cmd/app\n**/*_test.go\n!docs/guide.md\n",
    );
    let all = "FROM a\nCOPY . /";
    assert_eq!(
        context.files(all),
        [".dockerignore", "cmd/app/main.go", "docs/guide.md"],
        "the file in force goes with the context"
    );
    let sources = context.find(all).expect("valid");
    let dropped: Vec<(String, String)> = sources
        .dropped
        .iter()
        .map(|dropped| {
            let Why::Ignored(rule) = &dropped.why else {
                panic!("only rules drop here")
            };
            (
                dropped.path.to_string_lossy().into_owned(),
                rule.pattern.clone(),
            )
        })
        .collect();
    let pair = |path: &str, rule: &str| (path.to_owned(), rule.to_owned());
    assert_eq!(
        dropped,
        [
            pair("README.md", "**"),
            pair("cmd/app/main_test.go", "**/*_test.go"),
            pair("cmd/tool", "**"),
            pair("docs/img", "**"),
            pair("go.mod", "**"),
            pair("go.sum", "**"),
            pair("web", "**"),
        ]
    );
    let folders = sources
        .files
        .iter()
        .filter(|file| file.kind == FileKind::Folder);
    let folders: Vec<_> = folders.map(|file| file.path.to_string_lossy()).collect();
    assert_eq!(folders, ["cmd", "cmd/app", "docs"]);

    context.write("Dockerfile.dockerignore", "*\n!go.mod\n");
    assert_eq!(context.files(all), ["Dockerfile.dockerignore", "go.mod"]);

    context.write("Dockerfile.dockerignore", "a\n[\n");
    let error = context
        .find(all)
        .expect_err("the second line is no pattern");
    let file = context.root().join("Dockerfile.dockerignore");
    assert_eq!(error.to_string(), file.display().to_string());
    let source = std::error::Error::source(&error).expect("the reason");
    assert!(
        source
            .to_string()
            .starts_with("line 2: `[` is no valid pattern"),
        "{source}"
    );
}

#[test]
fn a_dockerfile_outside_brings_its_ignore_file() {
    let context = Context::new(PROJECT);
    context.write(".dockerignore", "*");
    let path = context.folder.path().join("app.Dockerfile");
    fs::write(&path, "FROM a\nCOPY . /").expect("a file");
    fs::write(path.with_extension("Dockerfile.dockerignore"), "*\n!go.mod").expect("a file");
    let sources = context.find_at(&path).expect("valid");
    assert_eq!(names(&sources), ["go.mod"]);
    assert_eq!(sources.dockerfile, path);
    let roots: Vec<_> = sources.watch.iter().map(|root| root.path.clone()).collect();
    assert_eq!(roots, [context.folder.path().to_owned(), context.root()]);
}

#[test]
fn links_are_followed_for_a_source_and_kept_below_it() {
    let context = Context::new(&["real/a", "real/b", "other/c"]);
    let root = context.root();
    symlink("real", root.join("link")).expect("a link");
    symlink("/real/a", root.join("file")).expect("a link");
    symlink("../other", root.join("real/out")).expect("a link");
    symlink("loop", root.join("loop")).expect("a link");
    symlink("nowhere", root.join("dangling")).expect("a link");
    assert_eq!(
        context.files("FROM a\nCOPY link /"),
        ["link", "real/a", "real/b", "real/out"]
    );
    assert_eq!(context.files("FROM a\nCOPY fil? /"), ["file", "real/a"]);
    assert_eq!(
        context.files("FROM a\nCOPY link/out/c /"),
        ["link", "other/c", "real/out"]
    );
    let kind = |sources: &Sources, path: &str| {
        let found = sources
            .files
            .iter()
            .find(|file| file.path == Path::new(path));
        found.map(|file| file.kind.clone())
    };
    let sources = context.find("FROM a\nCOPY real /").expect("valid");
    assert_eq!(
        kind(&sources, "real/out"),
        Some(FileKind::Link("../other".into()))
    );
    let error = context
        .find("FROM a\nCOPY loop /")
        .expect_err("it leads nowhere");
    assert!(matches!(error, SourcesError::LinkLoop(path) if path == root.join("loop")));
    let error = context
        .find("FROM a\nCOPY dangling /")
        .expect_err("it leads nowhere");
    assert!(matches!(error, SourcesError::NotFound { line: 2, .. }));
}

#[test]
fn folders_are_watched_as_deep_as_they_matter() {
    let context = Context::new(PROJECT);
    let root = context.root();
    let watch = |dockerfile: &str| context.find(dockerfile).expect(dockerfile).watch;
    let flat = |path: PathBuf| WatchRoot {
        path,
        recursive: false,
    };
    let deep = |path: PathBuf| WatchRoot {
        path,
        recursive: true,
    };
    assert_eq!(watch("FROM a"), [flat(root.clone())]);
    assert_eq!(
        watch("FROM a\nCOPY docs/guide.md web /"),
        [
            flat(root.clone()),
            flat(root.join("docs")),
            deep(root.join("web"))
        ]
    );
    assert_eq!(
        watch("FROM a\nCOPY cmd/*/main.go /x/"),
        [flat(root.clone()), deep(root.join("cmd"))]
    );
    assert_eq!(
        watch("FROM a\nCOPY --parents docs/img web/*.html ./docs/./guide.md /x/"),
        [
            flat(root.clone()),
            flat(root.join("docs")),
            deep(root.join("docs/img")),
            deep(root.join("web"))
        ]
    );
    assert_eq!(watch("FROM a\nCOPY . /"), [deep(root)]);
}

#[test]
fn the_digest_follows_content_kind_and_execute_bits() {
    let context = Context::new(PROJECT);
    let dockerfile = "FROM a\nCOPY cmd /";
    let before = context.digest(dockerfile);
    let mut digests = vec![before];
    let main = context.root().join("cmd/app/main.go");
    let mut changed = |context: &Context, what: &str| {
        let digest = context.digest(dockerfile);
        assert!(!digests.contains(&digest), "{what} changes the digest");
        digests.push(digest);
    };
    context.write("cmd/app/main.go", "cmd/app/main.gO");
    changed(&context, "content of the same size");
    fs::set_permissions(&main, fs::Permissions::from_mode(0o755)).expect("a mode");
    changed(&context, "an execute bit");
    context.write("cmd/app/new", "");
    changed(&context, "a new file");
    fs::rename(
        context.root().join("cmd/app/new"),
        context.root().join("cmd/app/old"),
    )
    .expect("a name");
    changed(&context, "a name");
    fs::remove_file(context.root().join("cmd/app/old")).expect("a file");
    fs::create_dir(context.root().join("cmd/app/old")).expect("a folder");
    changed(&context, "a kind");
    fs::remove_dir(context.root().join("cmd/app/old")).expect("a folder");
    symlink("x", context.root().join("cmd/app/old")).expect("a link");
    changed(&context, "a link");

    fs::remove_file(context.root().join("cmd/app/old")).expect("a link");
    context.write("cmd/app/main.go", "cmd/app/main.go");
    fs::set_permissions(&main, fs::Permissions::from_mode(0o600)).expect("a mode");
    context.write("README.md", "not a source");
    assert_eq!(
        context.digest(dockerfile),
        before,
        "what does not count does not change it"
    );
    assert_ne!(
        context.digest("FROM b\nCOPY cmd /"),
        before,
        "the Dockerfile counts"
    );
}
