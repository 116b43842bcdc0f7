// Package folder describes the data folder of a storage node: where each file is, the small files that a
// [durable.Format] describes, what stands at a path where the node needs a file or a folder, and the quarantine.
//
// The running node and the offline verifier both use it. The formats are drawn next to the code of each file.
package folder

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/storagenode/segment"
)

// Dir is the path of a data folder.
type Dir string

// subfolders are the folders that a data folder has.
var subfolders = []string{"segments", "tiles", "records", "inbox", "quarantine"}

func (d Dir) join(elem ...string) string {
	return filepath.Join(append([]string{string(d)}, elem...)...)
}

// The paths of folders and files. The documentation of package storagenode says what each is for.

func (d Dir) Segments() string   { return d.join("segments") }
func (d Dir) Tiles() string      { return d.join("tiles") }
func (d Dir) Records() string    { return d.join("records") }
func (d Dir) Inbox() string      { return d.join("inbox") }
func (d Dir) Quarantine() string { return d.join("quarantine") }
func (d Dir) Index() string      { return d.join("index") }
func (d Dir) Synced() string     { return d.join("tiles", "synced") }
func (d Dir) Lost() string       { return d.join("lost") }
func (d Dir) Ticket() string     { return d.join("repair") }
func (d Dir) Running() string    { return d.join("running") }

// IsUsed reports whether a node has used the folder: it has segments, or the index that a node writes at its first
// start, or something else at their paths.
func (d Dir) IsUsed() (bool, error) {
	if _, err := os.Lstat(d.Index()); !errors.Is(err, fs.ErrNotExist) {
		return err == nil, err
	}
	segments, err := segment.List(d.Segments())
	if durable.Absent(err) {
		err = nil
	}
	return len(segments) > 0, err
}
