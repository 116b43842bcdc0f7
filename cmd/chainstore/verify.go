package main

import (
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/chain"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/render"
	"github.com/chainstore/chainstore/storagenode/audit"
	"github.com/chainstore/chainstore/storagenode/tiles"
)

// verified is what verify --json prints.
type verified struct {
	Valid   bool       `json:"valid"`
	Height  uint64     `json:"height"` // blocks that are good, from 0 on; as are those below
	Records uint64     `json:"records"`
	Size    uint64     `json:"size"` // of the tree
	Head    chain.Hash `json:"head"` // hash of the last good block
	Torn    int64      `json:"torn"` // bytes of a write that was cut short behind it
	// Bad is the first block that is not good, where one is the reason.
	Bad   *uint64 `json:"bad_block,omitempty"`
	Error string  `json:"error,omitempty"`
	// Findings are the first of what is wrong; Ranges all blocks that are bad; Lost the bad ones that a person
	// confirmed as lost, which are no reason.
	Findings []chain.Finding `json:"findings"`
	Ranges   []chain.Range   `json:"bad"`
	Lost     []chain.Range   `json:"lost"`
	// Unchecked is the first block that could not be looked at, because bad blocks before it hide the tree.
	Unchecked uint64 `json:"unchecked,omitempty"`
}

// verifyOptions are the flags of verify: one of the first three says what is checked.
type verifyOptions struct {
	data, url, file  string
	state, tokenFile string
	allowTail        bool
	asJSON           bool
}

// newVerifyCommand checks a storage node's folder, a running log from outside, or an export.
func newVerifyCommand() *cobra.Command {
	var o verifyOptions
	cmd := &cobra.Command{
		Use:   "verify {--data STORAGE_DIR | --url URL --key KEY | --file EXPORT}",
		Short: "Check a chain: in a folder, from outside over HTTP, or in an export",
		Long: `Check a chain from block 0 to its end: every block held against the one before it, the tree and its
proof of work. Nothing is changed.

With --data, the chain in the data folder of a storage node, offline: every payload is hashed again. No cluster is
needed, and the node may be running or not. Blocks that a person has confirmed as lost are listed each time; they
alone make no chain invalid.

With --url, a running log from outside, by its signed checkpoint and the leaves that it serves to anybody; nobody is
trusted but the keys. With --state FILE it keeps how far it has come and what the log has shown: the next run goes on
from there, and finds a log that takes something back or shows others something else. With --token-file (or
CHAINSTORE_TOKEN), payloads that the token may read are checked too, and a private log can be read.

With --file, a whole chain in one file, as 'chainstore export' writes it. With --key, a checkpoint in the file that
the key has signed must cover every block. Blocks behind the newest such checkpoint are listed, since anybody could
have added them: the status is 1, or 0 with --allow-unsigned-tail. Without --key, no signature is checked. 'verify
receipt' checks a receipt.

It lists what is wrong and ends with status 1 then; with 0 where all is good, and with 2 where it could not be checked
to the end: nobody answers, it was stopped, a running log has blocks that nobody has any more, or the command line is
wrong.`,
		Example: `  chainstore verify --data chainstore-data/storage-1
  chainstore verify --url https://log.example --key log.vkey --state audit.json
  chainstore verify --file chain.export --key log.vkey`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	flags := cmd.Flags()
	flags.StringVar(&o.data, "data", "", "data `folder` of a storage node")
	flags.StringVar(&o.url, "url", "", "`URL` of a master of a running log")
	flags.StringVar(&o.file, "file", "", "`file` that was exported")
	flags.StringVar(&o.state, "state", "", "with --url: `file` that keeps how far the audit has come")
	flags.StringVar(&o.tokenFile, "token-file", "", "with --url: `file` with a project's token, or "+envToken)
	flags.BoolVar(&o.allowTail, "allow-unsigned-tail", false,
		"with --file and --key: accept blocks behind the newest signed checkpoint")
	trust := addTrust(cmd)
	addJSON(cmd, &o.asJSON, "print the result as one JSON object")
	mustComplete(cmd.MarkFlagDirname("data"))
	noFiles(cmd, "url")
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
		return verifyFolder(cmd, o.data, o.asJSON)
	}
	classifyErrors(cmd)
	cmd.AddCommand(newVerifyReceiptCommand())
	return cmd
}

// check refuses flags that do not go together.
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
		"state": o.url != "", "token-file": o.url != "", "key": o.data == "", "witness": o.data == "",
		"witness-quorum":      o.data == "",
		"allow-unsigned-tail": o.file != "",
	} {
		if cmd.Flags().Changed(flag) && !fits {
			return fmt.Errorf("--%s does not go with what is checked: a folder has no signature, only a log at a "+
				"URL has a"+
				" state and a token, and only an export has an unsigned tail", flag)
		}
	}
	return nil
}

func verifyFolder(cmd *cobra.Command, dir string, asJSON bool) error {
	bar := render.NewByteBar(cmd.ErrOrStderr(), "verify")
	found, err := audit.Verify(cmd.Context(), dir, bar.Set)
	bar.Done()
	if cause := cmd.Context().Err(); cause != nil && err != nil {
		return fmt.Errorf("stopped after %s, good so far", render.Count(found.Height, "block"))
	}
	var bad *chain.BlockError
	isBad := errors.As(err, &bad)
	if isBad {
		err = finding{fmt.Errorf("the chain is not valid: the first bad block is %d: %w", bad.Block, bad.Err)}
	}
	if errors.Is(err, tiles.ErrMismatch) || errors.Is(err, audit.ErrMisplaced) {
		err = finding{err}
	}
	out := cmd.OutOrStdout()
	if asJSON {
		v := verified{
			Valid: err == nil, Height: found.Height, Records: found.Records, Size: found.Size, Head: found.Hash,
			Torn:     found.Torn,
			Findings: orEmpty(found.Findings), Ranges: orEmpty(found.Bad), Lost: orEmpty(found.Lost),
			Unchecked: found.Unchecked,
		}
		if isBad {
			v.Bad = &bad.Block
		}
		if err != nil {
			v.Error = err.Error()
		}
		return errors.Join(err, render.JSON(out, v))
	}
	if _, err := io.WriteString(out, verifyText(&found, render.Width(out))); err != nil {
		return err
	}
	if err != nil {
		return err
	}
	if found.Torn > 0 {
		fmt.Fprintf(cmd.ErrOrStderr(),
			"%s behind the last block are of a write that was cut short; the node moves them aside at its next start\n",
			render.Bytes(found.Torn))
	}
	_, err = fmt.Fprintf(out, "height   %d\nrecords  %d\nhead     %v\nchain valid\n", found.Height, found.Records,
		found.Hash)
	return err
}

// verifyText lists what is wrong, which blocks are bad, and which are confirmed as lost; "" where all is good.
func verifyText(found *audit.Summary, width int) string {
	var b strings.Builder
	for _, f := range found.Findings {
		render.WriteWrapped(&b, "", render.Finding(f), width)
	}
	if len(found.Bad) > 0 {
		render.WriteWrapped(&b, "", "bad: "+render.Ranges(found.Bad), width)
	}
	if found.Unchecked > 0 {
		fmt.Fprintf(&b, "blocks from %d on could not be looked at: bad ones before them hide the tree\n",
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

// orEmpty is a list that JSON shows as one where it is empty, too.
func orEmpty[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
