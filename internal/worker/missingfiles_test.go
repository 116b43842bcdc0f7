package worker_test

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/chainstore/chainstore/internal/worker"
)

// TestMissingFiles lists what is missing for every combination of the files of a storage node and of a miner. The
// folder of a new worker lacks nothing, and neither does that of one that never registered and has its identity.
func TestMissingFiles(t *testing.T) {
	files := []string{"identity.json", "starts", "fence", "blocks"}
	source := t.TempDir()
	for _, name := range []string{"starts", "fence"} {
		if err := os.WriteFile(filepath.Join(source, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, registered := range []bool{true, false} {
		id := worker.Identity{Version: 1, MasterToken: "m"}
		if registered {
			id.ID, id.AccessToken, id.Group = "w1", "a", "g"
		}
		if err := id.Save(source); err != nil {
			t.Fatal(err)
		}
		for _, stores := range []bool{true, false} {
			for removed := range 1 << len(files) {
				gone := slices.DeleteFunc(slices.Clone(files), func(name string) bool {
					return removed>>slices.Index(files, name)&1 == 0
				})
				used := stores && !slices.Contains(gone, "blocks")
				dir := filepath.Join(t.TempDir(), "copy")
				err := os.CopyFS(dir, os.DirFS(source))
				for _, name := range gone {
					if name != "blocks" {
						err = errors.Join(err, os.Remove(filepath.Join(dir, name)))
					}
				}
				if err != nil {
					t.Fatal(err)
				}
				var want []string
				switch left := !slices.Contains(gone, "starts") || !slices.Contains(gone, "fence") || used; {
				case slices.Contains(gone, "identity.json"):
					if left {
						want = []string{"identity.json"}
					}
				case registered:
					for _, name := range gone {
						if name != "blocks" {
							want = append(want, name)
						} else if stores {
							want = append(want, "segments")
						}
					}
				}
				missing, err := worker.MissingFiles(dir, stores, used)
				var got []string
				for _, m := range missing {
					got = append(got, m.Name)
				}
				if err != nil || !slices.Equal(got, want) {
					t.Errorf("registered %v, storage node %v, without %q: %q, %v, want %q", registered, stores, gone,
						got, err, want)
				}
			}
		}
	}
}
