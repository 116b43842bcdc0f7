package main

import (
	"os"
	"regexp"
	"runtime/debug"
	"strings"
	"testing"
)

func TestVersionLine(t *testing.T) {
	commit := debug.BuildSetting{Key: "vcs.revision", Value: "abc"}
	changed := debug.BuildSetting{Key: "vcs.modified", Value: "true"}
	cases := []struct {
		name string
		info debug.BuildInfo
		want string
	}{
		{"no build information", debug.BuildInfo{}, "chainstore " + version + " go1"},
		{
			"built in a clone",
			debug.BuildInfo{GoVersion: "go1.26.0", Main: debug.Module{Version: "v0.0.0-x"},
				Settings: []debug.BuildSetting{commit}},
			"chainstore " + version + " commit abc go1.26.0 ",
		},
		{
			"built in a clone with changes",
			debug.BuildInfo{GoVersion: "go1.26.0", Settings: []debug.BuildSetting{commit, changed}},
			"chainstore " + version + " commit abc with changes go1.26.0 ",
		},
		{
			"installed from the module proxy",
			debug.BuildInfo{GoVersion: "go1.26.0", Main: debug.Module{Version: "v0.0.0-x"}},
			"chainstore " + version + " module v0.0.0-x go1.26.0 ",
		},
		{
			"built outside a clone",
			debug.BuildInfo{GoVersion: "go1.26.0", Main: debug.Module{Version: "(devel)"}},
			"chainstore " + version + " go1.26.0 ",
		},
	}
	for _, c := range cases {
		if got := newBuild(&c.info).String(); !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: %q, want %q…", c.name, got, c.want)
		}
	}
}

func TestChangelogBeginsWithThisVersion(t *testing.T) {
	text, err := os.ReadFile("../../CHANGELOG.md")
	if err != nil {
		t.Fatal(err)
	}
	first := regexp.MustCompile(`(?m)^## \[(\d+\.\d+\.\d+)\]`).FindSubmatch(text)
	if first == nil || string(first[1]) != version {
		t.Errorf("the newest version of CHANGELOG.md is %q, the program's is %s", first, version)
	}
}

func TestVersionFlag(t *testing.T) {
	root := newRootCommand()
	var out strings.Builder
	root.SetOut(&out)
	root.SetArgs([]string{"--version"})
	if err := root.Execute(); err != nil || out.String() != programBuild().String()+"\n" {
		t.Errorf("%q, %v", out.String(), err)
	}
}
