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

// Segments is the folder of the blocks.
func (d Dir) Segments() string { return d.join("segments") }

// Tiles is the folder of the tree's hashes.
func (d Dir) Tiles() string { return d.join("tiles") }

// Records is the folder of the index of records.
func (d Dir) Records() string { return d.join("records") }

// Inbox is the folder of the blocks that wait.
func (d Dir) Inbox() string { return d.join("inbox") }

// Quarantine is the folder of what was moved aside.
func (d Dir) Quarantine() string { return d.join("quarantine") }

// Index is the file with the place of each block.
func (d Dir) Index() string { return d.join("index") }

// Synced is the file with the head up to which index and tiles are durable.
func (d Dir) Synced() string { return d.join("tiles", "synced") }

// Lost is the file with the blocks that are confirmed as lost.
func (d Dir) Lost() string { return d.join("lost") }

// Ticket is the file with the ticket of the repair that cut the chain last.
func (d Dir) Ticket() string { return d.join("repair") }

// Running is the file that exists while a node runs.
func (d Dir) Running() string { return d.join("running") }
