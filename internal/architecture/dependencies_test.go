package architecture

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"golang.org/x/mod/modfile"
)

// TestDependenciesPage compares go.mod with docs/dependencies.md: the page describes each direct dependency, no other
// module, and names versions only as go.mod has them.
func TestDependenciesPage(t *testing.T) {
	root := filepath.Join("..", "..")
	data, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	mod, err := modfile.Parse("go.mod", data, nil)
	if err != nil {
		t.Fatal(err)
	}
	page, err := os.ReadFile(filepath.Join(root, "docs", "dependencies.md"))
	if err != nil {
		t.Fatal(err)
	}
	var listed []string // packages or modules, in bold
	for _, found := range regexp.MustCompile("\\*\\*`([^`]+)`\\*\\*").FindAllSubmatch(page, -1) {
		listed = append(listed, string(found[1]))
	}
	within := func(name, module string) bool { return name == module || strings.HasPrefix(name, module+"/") }
	direct := map[string]string{}
	for _, r := range mod.Require {
		if r.Indirect {
			continue
		}
		direct[r.Mod.Path] = r.Mod.Version
		found := false
		for _, name := range listed {
			found = found || within(name, r.Mod.Path)
		}
		if !found {
			t.Errorf("docs/dependencies.md does not list %s, which go.mod requires", r.Mod.Path)
		}
	}
	for _, name := range listed {
		found := false
		for module := range direct {
			found = found || within(name, module)
		}
		if !found {
			t.Errorf("docs/dependencies.md lists %s, which is no direct dependency", name)
		}
	}
	version := regexp.MustCompile("`?([a-z0-9./-]+)`?(?:\\*\\*)?\\s\\((v[0-9.]+)\\)")
	for _, found := range version.FindAllSubmatch(page, -1) {
		known := false
		for _, r := range mod.Require {
			path := r.Mod.Path
			named := path == string(found[1]) || filepath.Base(strings.TrimSuffix(path, "/v2")) == string(found[1])
			known = known || named && r.Mod.Version == string(found[2])
		}
		if !known {
			t.Errorf("docs/dependencies.md names %s in version %s, and go.mod does not", found[1], found[2])
		}
	}
}
