package storagenode

import (
	"errors"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/durable"
	"github.com/chainstore/chainstore/storagenode/folder"
)

// moveMisplaced moves to quarantine/ what stands in the place of the node's files and folders, and creates the folders
// that are missing then. The next check that finishes reports it. mu is held, or the node is being opened.
//
// The error wraps ErrFailed, or is the disk's. Some things may not have been moved then.
func (n *Node) moveMisplaced() error {
	list, err := n.dir.Misplaced()
	if err != nil || len(list) == 0 {
		return err
	}
	for i := range list {
		if err := n.moveOne(&list[i]); err != nil {
			return err
		}
	}
	return n.dir.MakeSubfolders()
}

// moveMisplacedSegment is moveMisplaced for the path of one segment.
func (n *Node) moveMisplacedSegment(path string, first uint64) error {
	m, err := n.dir.MisplacedSegment(path, first)
	if m == nil {
		return err
	}
	return n.moveOne(m)
}

func (n *Node) moveOne(m *folder.Misplaced) error {
	to, err := n.moveAside(m.Path)
	if err != nil {
		return err
	}
	finding := m.Moved(n.dir.Relative(to))
	n.log.Error("something else stood in the place of a file, and was moved aside", "what", finding.Detail)
	if len(n.moved) < chain.MaxFindings {
		n.moved = append(n.moved, finding)
	}
	if m.Path == n.dir.Running() { // it says that the node runs
		return n.fail(n.dir.Mark())
	}
	return nil
}

// moveAside moves what is at a path to quarantine/. The error wraps ErrFailed if a sync failed. mu is held.
func (n *Node) moveAside(path string) (to string, err error) {
	if to, err = n.dir.MoveAside(path); errors.Is(err, durable.ErrNotSynced) {
		err = n.fail(err)
	}
	return to, err
}
