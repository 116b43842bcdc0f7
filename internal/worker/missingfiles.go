package worker

import (
	"errors"
	"io/fs"
	"os"
)

// MissingFile is a file that the data folder of a worker lacks, although other files show that a worker has used the
// folder.
type MissingFile struct {
	Name    string
	Meaning string // what follows for the worker, and what the operator can do
}

// The files that can be missing, and what follows. None of it ends the start: the masters judge the worker by what is
// left, and docs/operations.md tells operators to remove some of these files. But a folder that lost them in another
// way looks the same.
var (
	missingIdentity = MissingFile{"identity.json", "this node registers as a new one, in place of the one at its " +
		"URL, and keeps the blocks that it has. If the file was not removed for that purpose, the folder is damaged " +
		"or only partly restored"}
	missingStarts = MissingFile{"starts", "the masters refuse this node if an earlier start of it had the list. " +
		"Then remove identity.json too, and start the node again: it registers as a new one"}
	missingFence = MissingFile{"fence", "this node refuses orders of earlier leaders again once it has registered, " +
		"and takes none before. If the file was not removed on purpose, the folder is damaged or only partly restored"}
	missingBlocks = MissingFile{"segments", "this node was registered, and has neither segments nor an index. It " +
		"starts without blocks, and is repaired. If the disk of its blocks is not mounted, stop the node and mount it"}
)

// MissingFiles lists what a data folder lacks. A folder without any file lacks nothing, because its worker is new.
// Apart from the identity, a worker that has not registered yet lacks nothing either. stores: the worker is a storage
// node; used: its folder has files of blocks. Call MissingFiles before the files are opened, which writes them.
func MissingFiles(dir string, stores, used bool) ([]MissingFile, error) {
	id, _, err := readIdentity(dir)
	noIdentity := errors.Is(err, fs.ErrNotExist)
	if err != nil && !noIdentity {
		return nil, err
	}
	noStarts, err := isMissing(startsPath(dir))
	if err != nil {
		return nil, err
	}
	noFence, err := isMissing(fencePath(dir))
	if err != nil {
		return nil, err
	}
	var missing []MissingFile
	if noIdentity && (used || !noStarts || !noFence) {
		missing = append(missing, missingIdentity)
	}
	if id.ID == "" {
		return missing, nil
	}
	if noStarts {
		missing = append(missing, missingStarts)
	}
	if noFence {
		missing = append(missing, missingFence)
	}
	if stores && !used {
		missing = append(missing, missingBlocks)
	}
	return missing, nil
}

func isMissing(path string) (bool, error) {
	_, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil
	}
	return false, err
}
