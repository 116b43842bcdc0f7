// Package offline has the commands that work on folders and files: verify, export, import, log backup and
// master recover.
package offline

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/cli"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/render"
	"github.com/chainstore/chainstore/internal/atrest"
	"github.com/chainstore/chainstore/storagenode/audit"
	"github.com/chainstore/chainstore/storagenode/tiles"
	"github.com/chainstore/chainstore/wire"
)

// verified is what verify --json prints.
type verified struct {
	Valid   bool       `json:"valid"`
	Height  uint64     `json:"height"` // number of good blocks from 0 on; Records, Size and Head are theirs
	Records uint64     `json:"records"`
	Size    uint64     `json:"size"` // leaves of the tree
	Head    chain.Hash `json:"head"` // hash of the last good block
	Torn    int64      `json:"torn"` // bytes of an incomplete write after it
	// Bad is the first bad block, if there is one.
	Bad   *uint64 `json:"bad_block,omitempty"`
	Error string  `json:"error,omitempty"`
	// Findings describe the first errors, and Ranges are all bad blocks. Lost are the blocks that are confirmed as
	// lost; they do not make the chain invalid.
	Findings []wire.Finding `json:"findings"`
	Ranges   []chain.Range  `json:"bad"`
	Lost     []chain.Range  `json:"lost"`
	// Unchecked is the first block that could not be checked, because bad blocks before it hide the tree.
	Unchecked uint64 `json:"unchecked,omitempty"`
}

// verifyOptions are the flags of verify. Exactly one of data, url and file is set.
type verifyOptions struct {
	data, url, file      string
	atRestKeys           string
	state, tokenFile, ca string
	allowTail            bool
	asJSON               bool
}

// NewVerify checks a storage node's folder, a running log from outside, or an export.
func NewVerify() *cobra.Command {
	var o verifyOptions
	cmd := &cobra.Command{
		Use:   "verify {--data STORAGE_DIR | --url URL --key KEY | --file EXPORT}",
		Short: "Check a chain: in a folder, from outside over HTTP, or in an export",
		Long: `Check a chain from block 0 to its end: every block is verified against the block before it, the tree
and its proof of work. Nothing is changed.

With --data, check the chain in the data folder of a storage node, offline. Every payload is hashed again. No cluster
is needed, and the node may be running or not. Blocks with a confirmed loss are listed each time; they alone do not
make a chain invalid.

With --url, check a running log from outside, by its signed checkpoint and the leaves that it serves publicly. Only
the keys are trusted. With --state FILE the command saves its progress and the checkpoints that it has seen. The next
run continues from there, and detects a log that removes entries or shows different entries to others. With
--token-file (or CHAINSTORE_TOKEN), payloads that the token may read are checked too, and a private log can be read.

With --file, check a whole chain in one file written by 'chainstore export'. With --key, a checkpoint in the file that
is signed by the key must cover every block. Blocks after the newest such checkpoint are listed, since anyone could
have added them: the status is 1, or 0 with --allow-unsigned-tail. Without --key, no signature is checked. 'verify
receipt' checks a receipt.

The command lists what is wrong. The status is 0 if everything is valid, 1 if something is not, and 2 if the check
could not be completed: no master answered, it was stopped, no node of a running log has some blocks any more, or the
command line is wrong.`,
		Example: `  chainstore verify --data chainstore-data/storage-1
  chainstore verify --url https://log.example --key log.vkey --state audit.json
  chainstore verify --file chain.export --key log.vkey`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	flags := cmd.Flags()
	flags.StringVar(&o.data, "data", "", "data `folder` of a storage node")
	addAtRestKeys(cmd, &o.atRestKeys, "with --data: "+atRestUsage)
	flags.StringVar(&o.url, "url", "", "`URL` of a master of a running log")
	flags.StringVar(&o.file, "file", "", "exported `file`")
	flags.StringVar(&o.state, "state", "", "with --url: `file` that keeps the state of the audit")
	cli.AddCA(cmd, &o.ca)
	flags.StringVar(&o.tokenFile, "token-file", "", "with --url: `file` with a project's token, or "+cli.EnvToken)
	flags.BoolVar(&o.allowTail, "allow-unsigned-tail", false,
		"with --file and --key: accept blocks after the newest signed checkpoint")
	trust := addTrust(cmd)
	cli.AddJSON(cmd, &o.asJSON, "print the result as one JSON object")
	cli.MustComplete(cmd.MarkFlagDirname("data"))
	cli.NoFiles(cmd, "url")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := o.check(cmd); err != nil {
			return err
		}
		signatures := o.url != "" || trust.named(cmd) || o.allowTail
		trust, err := trust.trust(cmd, signatures)
		switch {
		case err != nil:
			return err
		case o.url != "":
			return o.verifyURL(cmd, trust)
		case o.file != "":
			return o.verifyFile(cmd, trust, signatures)
		}
		return o.verifyFolder(cmd)
	}
	cli.ClassifyErrors(cmd)
	cmd.AddCommand(newVerifyReceiptCommand())
	return cmd
}

// check refuses flags that contradict each other.
func (o *verifyOptions) check(cmd *cobra.Command) error {
	ways := 0
	for _, way := range []string{o.data, o.url, o.file} {
		if way != "" {
			ways++
		}
	}
	if ways != 1 {
		return errors.New("name one thing to check: the data folder of a storage node with --data (the \"storages\" " +
			"of a cluster.json list theirs), a log with --url, or an export with --file")
	}
	for flag, fits := range map[string]bool{
		"state": o.url != "", "token-file": o.url != "", "allow-unsigned-tail": o.file != "",
		"at-rest-keys": o.data != "", "key": o.data == "", "witness": o.data == "", "witness-quorum": o.data == "",
	} {
		if cmd.Flags().Changed(flag) && !fits {
			return fmt.Errorf("--%s does not go with what is checked: a folder has no signature, only a folder has "+
				"keys, only a log at a URL has a state and a token, and only an export has an unsigned tail", flag)
		}
	}
	return nil
}

func (o *verifyOptions) verifyFolder(cmd *cobra.Command) error {
	folder, asJSON := audit.Folder{Path: o.data}, o.asJSON
	if o.atRestKeys != "" {
		var err error
		if folder.AtRest, err = atrest.Load(o.atRestKeys); err != nil {
			return err
		}
	}
	bar := render.NewBar(cmd.ErrOrStderr(), "verify", "")
	found, err := folder.Verify(cmd.Context(), bar.Set)
	bar.Done()
	if cause := cmd.Context().Err(); cause != nil && err != nil {
		return fmt.Errorf("stopped after %s, good so far", render.Count(found.Height, "block"))
	}
	var bad *chain.BlockError
	isBad := errors.As(err, &bad)
	if isBad {
		err = cli.Finding{Err: fmt.Errorf("the chain is not valid: the first bad block is %d: %w", bad.Block, bad.Err)}
	}
	if errors.Is(err, tiles.ErrMismatch) || errors.Is(err, audit.ErrMisplaced) {
		err = cli.Finding{Err: err}
	}
	out := cmd.OutOrStdout()
	text := verifyText(&found, render.Width(out))
	v := verified{
		Valid: err == nil, Height: found.Height, Records: found.Records, Size: found.Size, Head: found.Hash,
		Torn: found.Torn, Findings: orEmpty(found.Findings), Ranges: orEmpty(found.Bad), Lost: orEmpty(found.Lost),
		Unchecked: found.Unchecked,
	}
	if isBad {
		v.Bad = &bad.Block
	}
	if err != nil {
		v.Error = err.Error()
	} else {
		text += fmt.Sprintf("height   %d\nrecords  %d\nhead     %v\nchain valid\n", found.Height, found.Records,
			found.Hash)
	}
	if err == nil && !asJSON && found.Torn > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(),
			"%s after the last block are from an incomplete write; the node moves them aside at its next start\n",
			render.Bytes(found.Torn))
	}
	return errors.Join(err, render.Print(out, asJSON, v, text))
}

// verifyText lists errors, bad blocks and blocks that are confirmed as lost. It is "" if there are none.
func verifyText(found *audit.Summary, width int) string {
	var b strings.Builder
	for _, f := range found.Findings {
		render.WriteWrapped(&b, "", render.Finding(f), width)
	}
	if len(found.Bad) > 0 {
		render.WriteWrapped(&b, "", "bad: "+render.Ranges(found.Bad), width)
	}
	if found.Unchecked > 0 {
		fmt.Fprintf(&b, "blocks from %d on could not be checked: bad blocks before them hide the tree\n",
			found.Unchecked)
	}
	for _, r := range found.Lost {
		if r.Len() == 1 {
			fmt.Fprintf(&b, "block %d is lost; confirmed\n", r.From)
		} else {
			fmt.Fprintf(&b, "blocks %d to %d are lost; confirmed\n", r.From, r.To-1)
		}
	}
	return b.String()
}

// orEmpty returns list, or an empty list for nil, which JSON would show as null.
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
