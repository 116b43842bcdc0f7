package main

import (
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/cmd/chainstore/internal/cli"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/render"
)

// version is the current or next release of this source. It must match CHANGELOG.md.
const version = "0.1.0"

// newVersionCommand prints the version.
func newVersionCommand() *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:               "version",
		Short:             "Print the version, the commit and the Go version it was built with",
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			b := programBuild()
			return render.Print(cmd.OutOrStdout(), asJSON, b, b.String()+"\n")
		},
	}
	cli.AddJSON(cmd, &asJSON, "print the version as JSON")
	return cmd
}

// build describes this program.
type build struct {
	Version  string `json:"version"`
	Module   string `json:"module,omitempty"`   // module version that Go recorded, "" in a build of a folder
	Commit   string `json:"commit,omitempty"`   // "" unless the program was built in a clone
	Modified bool   `json:"modified,omitempty"` // the sources differed from the commit
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// programBuild describes this program.
func programBuild() build {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		info = &debug.BuildInfo{}
	}
	return newBuild(info)
}

func newBuild(info *debug.BuildInfo) build {
	b := build{Version: version, Go: info.GoVersion, Platform: runtime.GOOS + "/" + runtime.GOARCH}
	if b.Go == "" {
		b.Go = runtime.Version()
	}
	if info.Main.Version != "(devel)" {
		b.Module = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}

// String returns the build on one line. The module version is left out if there is a commit, since it repeats it.
func (b build) String() string {
	parts := []string{"chainstore", b.Version}
	switch {
	case b.Commit != "" && b.Modified:
		parts = append(parts, "commit", b.Commit, "with changes")
	case b.Commit != "":
		parts = append(parts, "commit", b.Commit)
	case b.Module != "":
		parts = append(parts, "module", b.Module)
	}
	return strings.Join(append(parts, b.Go, b.Platform), " ")
}
