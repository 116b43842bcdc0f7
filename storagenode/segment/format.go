package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/internal/durable"
)

// Sizes of the format, in bytes.
const (
	HeaderSize  = 4 + 1 + 3 + 8 + 4 // of a file's header
	FrameHeader = 4 + 4             // before each block
	MaxBlock    = 1<<32 - 1         // what a frame can hold
)

const (
	suffix = ".seg"
	digits = 20
)

var format = durable.Format{Magic: "CSSG", Version: 1, Zeros: 3}

// Name returns the file name of the segment whose first block has that number.
func Name(first uint64) string { return fmt.Sprintf("%0*d%s", digits, first, suffix) }

// List returns the first block numbers of all segments in a folder, in ascending order. Other files are passed over. A
// missing folder has none.
func List(dir string) ([]uint64, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var list []uint64
	for _, e := range entries {
		number, ok := strings.CutSuffix(e.Name(), suffix)
		if !ok || len(number) != digits {
			continue
		}
		first, err := strconv.ParseUint(number, 10, 64)
		if err != nil {
			continue
		}
		list = append(list, first)
	}
	slices.Sort(list)
	return list, nil
}

// appendHeader appends a file's header to dst.
func appendHeader(dst []byte, first uint64) []byte {
	return format.Append(dst, binary.BigEndian.AppendUint64(nil, first))
}

// CheckHeader reads the header of a file and checks it against the number in the file's name. The error wraps
// [durable.ErrDamaged] or [durable.ErrNewerFormat], or is the disk's.
func CheckHeader(file io.ReaderAt, first uint64) error {
	if e, ok := file.(*encrypted); ok {
		return checkPages(e, first)
	}
	var header [HeaderSize]byte
	got, err := file.ReadAt(header[:], 0)
	if err != nil && err != io.EOF {
		return err
	}
	if hasEncryptedMagic(header[:got]) {
		return fmt.Errorf("%w: both copies of its header", durable.ErrDamaged)
	}
	return format.Decode(header[:got], func(f *durable.Fields) {
		if got := f.Uint64(); got != first {
			f.Fail(fmt.Errorf("its header names block %d as the first, its file name block %d", got, first))
		}
	})
}

// minBlock is the size of the smallest block: one record without key, type and payload.
const minBlock = chain.HeaderSize + 4 + chain.RecordOverhead
