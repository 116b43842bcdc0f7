package architecture

import (
	"slices"
	"strings"
	"testing"
)

// TestNoCycles checks that mayImport allows no cycle of folders. So there is an order of the folders in which every arrow
// points down.
func TestNoCycles(t *testing.T) {
	const open, done = 1, 2
	state := map[string]int{}
	var path []string
	var visit func(folder string)
	visit = func(folder string) {
		if state[folder] == done {
			return
		}
		path = append(path, folder)
		defer func() { path = path[:len(path)-1] }()
		if state[folder] == open {
			t.Errorf("a cycle of imports: %s", strings.Join(path[slices.Index(path, folder):], " -> "))
			return
		}
		state[folder] = open
		for _, target := range mayImport[folder] {
			if _, ok := mayImport[target]; !ok {
				t.Errorf("%s may import %s, which has no entry in mayImport", folder, target)
				continue
			}
			visit(target)
		}
		state[folder] = done
	}
	for folder := range mayImport {
		visit(folder)
	}
}
