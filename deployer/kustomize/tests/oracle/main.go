// The library of kustomize 5.7.1 (api v0.20.1), called as `kustomize build`
// calls it, for many folders in one process: starting the program takes longer
// than rendering a small overlay.
//
// Reads folders from stdin, a line each, and answers each with a line that
// holds the length of the documents, or -1, and then that many bytes.
package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"

	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
)

func main() {
	in := bufio.NewScanner(os.Stdin)
	out := bufio.NewWriter(os.Stdout)
	for in.Scan() {
		text, err := render(in.Text())
		if err != nil {
			fmt.Fprintln(out, -1)
		} else {
			fmt.Fprintln(out, len(text))
			out.Write(text)
		}
		out.Flush()
	}
}

func render(folder string) (text []byte, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	options := krusty.MakeDefaultOptions()
	options.Reorder = krusty.ReorderOptionUnspecified
	m, err := krusty.MakeKustomizer(options).Run(filesys.MakeFsOnDisk(), folder)
	if err != nil {
		return nil, err
	}
	text, err = m.AsYaml()
	// The label names the version of the program, and this is another one.
	return bytes.ReplaceAll(text, []byte("kustomize-(devel)"), []byte("kustomize-v5.7.1")), err
}
