// Package folder describes the data folder of a storage node: where each file is, the small files that a
// [durable.Format] describes, what stands at a path where the node needs a file or a folder, and the quarantine.
//
// The running node and the offline verifier both use it. The formats are drawn next to the code of each file.
package folder

import "path/filepath"

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
