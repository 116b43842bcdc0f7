package storagenode

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/chainstore/chainstore/internal/durable"
)

// The file "running" is there while a node has the folder, and stays when its process ends without Close:
//
//	magic "CSRN" ‖ version u8 = 1 ‖ 0 0 0
const (
	runningMagic   = "CSRN"
	runningVersion = 1
)

func (n *Node) runningPath() string { return filepath.Join(n.cfg.Dir, "running") }

// Unclean reports whether the chain wants a check because of how the node was started: the start before this one ended without
// Close, or Open found damage.
func (n *Node) Unclean() bool { return n.unclean.Load() }

// marked reports whether the start before this one left its mark.
func (n *Node) marked() (bool, error) {
	data, err := durable.ReadFile(n.runningPath())
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if durable.Absent(err) {
		return true, nil // something else stands there: what became of the mark is not known
	}
	if err != nil {
		return false, err
	}
	if len(data) > 4 && string(data[:4]) == runningMagic && data[4] > runningVersion {
		return false, fmt.Errorf("%s: %w: version %d, this program knows %d", n.runningPath(), ErrNewerFormat, data[4], runningVersion)
	}
	return true, nil
}

func (n *Node) mark() error {
	return durable.WriteFile(n.runningPath(), append([]byte(runningMagic), runningVersion, 0, 0, 0), 0o600)
}

// unmark is the last act of a good end.
func (n *Node) unmark() error {
	if err := os.Remove(n.runningPath()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return durable.SyncDir(n.cfg.Dir)
}
