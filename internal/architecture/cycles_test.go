package architecture

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

// TestNoCycles checks that the imports between the folders of mayImport have no cycle. The compiler rejects a cycle of
// packages; a cycle of folders can exist without one. Without a cycle the folders have an order in which every arrow
// points down.
func TestNoCycles(t *testing.T) {
	arrows := map[string]map[string]bool{}
	for _, s := range readSources(t) {
		for _, path := range s.imports {
			own, ok := strings.CutPrefix(path, module)
			if target := folderOf(own); ok && target != s.folder {
				if arrows[s.folder] == nil {
					arrows[s.folder] = map[string]bool{}
				}
				arrows[s.folder][target] = true
			}
		}
	}
	done := map[string]bool{}
	var path []string
	var visit func(folder string)
	visit = func(folder string) {
		if at := slices.Index(path, folder); at >= 0 {
			t.Errorf("a cycle of imports: %s", strings.Join(append(path[at:len(path):len(path)], folder), " -> "))
			return
		}
		if done[folder] {
			return
		}
		done[folder] = true
		path = append(path, folder)
		for _, target := range slices.Sorted(maps.Keys(arrows[folder])) {
			visit(target)
		}
		path = path[:len(path)-1]
	}
	for _, folder := range slices.Sorted(maps.Keys(arrows)) {
		visit(folder)
	}
}
