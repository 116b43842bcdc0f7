package offline

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"strings"

	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/cmd/chainstore/internal/cli"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/render"
	"github.com/chainstore/chainstore/verify"
)

// trustFlags are the flags that name trusted keys.
type trustFlags struct {
	keys, witnesses []string
	quorum          int
}

func addTrust(cmd *cobra.Command) *trustFlags {
	t := &trustFlags{}
	flags := cmd.Flags()
	flags.StringArrayVar(&t.keys, "key", nil,
		"verifier `key` of the log, or a file with one key a line; one of them must have signed (repeatable)")
	flags.StringArrayVar(&t.witnesses, "witness", nil, "verifier `key` of a witness, or a file of keys (repeatable)")
	flags.IntVar(&t.quorum, "witness-quorum", 0,
		"how `many` of the named witnesses must have signed (default all)")
	cli.NoFiles(cmd, "witness-quorum")
	return t
}

// named reports whether a flag of the command line asks for a signature.
func (t *trustFlags) named(cmd *cobra.Command) bool {
	for _, flag := range []string{"key", "witness", "witness-quorum"} {
		if cmd.Flags().Changed(flag) {
			return true
		}
	}
	return false
}

// trust reads the keys. If needed is set, a key of the log is required.
func (t *trustFlags) trust(cmd *cobra.Command, needed bool) (verify.Trust, error) {
	keys, err := readKeys("key", t.keys)
	if err != nil {
		return verify.Trust{}, err
	}
	if needed && len(keys) == 0 {
		return verify.Trust{}, errors.New("name the log's verifier key with --key: a signature proves something only " +
			"if the key does not come from the log itself")
	}
	witnesses, err := readKeys("witness", t.witnesses)
	if err != nil {
		return verify.Trust{}, err
	}
	quorum := t.quorum
	if !cmd.Flags().Changed("witness-quorum") {
		quorum = len(witnesses)
	}
	return verify.NewTrust(keys, witnesses, quorum)
}

// keyForm matches a verifier key. Most keys have a slash, so readKeys tries it before a file of that name.
var keyForm = regexp.MustCompile(`^[^+\s]+\+[0-9a-fA-F]{8}\+[A-Za-z0-9+/]{44}$`)

// readKeys returns each name that has the form of a key, and reads the others as files of keys. Empty lines and lines
// that start with # are ignored. A file without a key is an error: the check would cover less than the flag asks for.
func readKeys(flag string, names []string) (keys []string, err error) {
	for _, name := range names {
		before := len(keys)
		if keyForm.MatchString(name) {
			keys = append(keys, name)
			continue
		}
		data, err := os.ReadFile(name)
		if errors.Is(err, fs.ErrNotExist) && strings.Count(name, "+") >= 2 {
			keys = append(keys, name)
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("%w (neither a verifier key, NAME+HASH+BASE64, nor a file of keys)", err)
		}
		for line := range strings.Lines(string(data)) {
			if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
				keys = append(keys, line)
			}
		}
		if len(keys) == before {
			return nil, fmt.Errorf("--%s: %s holds no verifier key (expected lines NAME+HASH+BASE64)", flag, name)
		}
	}
	return keys, nil
}

// readBounded reads a file of at most limit bytes.
func readBounded(path string, limit int64) (data []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // only read
	if data, err = io.ReadAll(io.LimitReader(f, limit+1)); err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%s has more than %s", path, render.Bytes(limit))
	}
	return data, err
}
