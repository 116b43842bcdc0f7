package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/cmd/chainstore/internal/render"
	"github.com/chainstore/chainstore/internal/roles"
	"github.com/chainstore/chainstore/verify"
	"github.com/chainstore/chainstore/verify/export"
)

// moved is what export and import print with --json.
type moved struct {
	Height      uint64 `json:"height"`
	Size        uint64 `json:"size"`
	Hash        string `json:"hash"`
	Checkpoints int    `json:"checkpoints"`
	Keys        int    `json:"keys"`
	// Of an export: blocks that a checkpoint in the file covers, and blocks of the folder that are left out because
	// none does.
	Covered *uint64 `json:"covered_height,omitempty"`
	LeftOut *uint64 `json:"left_out,omitempty"`
}

// newExportCommand writes a chain into one file.
func newExportCommand() *cobra.Command {
	var cfg roles.ExportConfig
	var url, tokenFile string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "export --data STORAGE_DIR --out FILE",
		Short: "Write a storage node's whole chain into one file",
		Long: `Write the whole chain of a storage node's data folder into one file, for cold storage or to move it:
'chainstore verify --file' checks it, 'chainstore import' makes
the folder of a storage node from it. The node may be running or not; each block is verified on its way, and where one
is damaged or lost nothing is written.

With --url the log's newest signed checkpoint and its verifier keys go into the file, so that whoever knows the key can
see later whose chain it is. The file ends where that checkpoint ends: newer blocks are left out, the command prints how
many, and the next export has them. With --unsigned-tail they go into the file too, and 'chainstore verify --file --key'
needs --allow-unsigned-tail then.

Without --url the file holds the whole chain and no checkpoint: nothing shows whose chain it is, and
'chainstore verify --file --key' refuses it. Payloads of private projects are in the file as they are, tokens and names
of projects are not: keep it as you keep a storage node's disk.`,
		Example: `  chainstore export --data /var/lib/chainstore/storage --out 2026-06.export \
    --url http://127.0.0.1:8000
  chainstore verify --file 2026-06.export --key log.vkey`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cfg.Data == "" || cfg.Out == "" {
				return errors.New("name the data folder of a storage node with --data, and the file that is to be " +
					"made with --out")
			}
			if url != "" {
				token, err := readSecret(tokenFile, envToken)
				if err != nil {
					return err
				}
				checkpoint, keys, err := verify.Newest(cmd.Context(), verify.Options{URL: url, Token: token})
				if err != nil {
					return err
				}
				cfg.Checkpoints, cfg.Keys = []string{checkpoint}, keys
			}
			bar := render.NewByteBar(cmd.ErrOrStderr(), "export")
			cfg.Progress = bar.Set
			end, err := roles.ExportStorage(cmd.Context(), cfg)
			bar.Done()
			if err != nil {
				return stopped(cmd, err, cfg.Out)
			}
			m := moved{Checkpoints: len(cfg.Checkpoints), Keys: len(cfg.Keys), Covered: &end.Covered,
				LeftOut: &end.LeftOut}
			return tellMoved(cmd, &end.End, m, asJSON, exportText(&end, len(cfg.Checkpoints))+"exported to "+cfg.Out)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&cfg.Data, "data", "", "data `folder` of a storage node")
	flags.StringVar(&cfg.Out, "out", "", "`file` that is made; it must not be there")
	flags.StringVar(&url, "url", "", "`URL` of a master: its newest checkpoint and the log's keys go along")
	flags.BoolVar(&cfg.UnsignedTail, "unsigned-tail", false,
		"with --url: export the blocks behind the newest checkpoint too")
	flags.StringVar(&tokenFile, "token-file", "", "with --url, where the log is private: `file` with a token, or "+
		envToken)
	addJSON(cmd, &asJSON, "print what was exported as one JSON object")
	mustComplete(cmd.MarkFlagDirname("data"))
	mustComplete(cmd.MarkFlagFilename("out"))
	mustComplete(cmd.MarkFlagFilename("token-file"))
	mustComplete(cmd.RegisterFlagCompletionFunc("url", cobra.NoFileCompletions))
	return cmd
}

// newImportCommand makes a storage node's folder from an export.
func newImportCommand() *cobra.Command {
	var cfg roles.ImportConfig
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "import FILE --data NEW_STORAGE_DIR",
		Short: "Make a storage node's folder from an export",
		Long: `Make the data folder of a storage node from a file that 'chainstore export' has written. The folder
must be empty or not be there; each block is verified and stored as
one that the masters send. It is there whole or not at all.

No signature is checked. Check first with 'chainstore verify --file FILE --key KEY' that the log's key has signed the
chain: a group that is founded on it signs all of it.

Start the node on the folder as any storage node, and found a group on it with 'chainstore master recover
--from-storage URL': it is the group that was exported,
in a later epoch. A group that still lives takes the node in as a new one. With --rehearsal the node is of no group
yet: the first that it registers with is its own, for instance one that 'chainstore master recover --rehearsal' has
made.`,
		Example: `  chainstore import 2026-06.export --data /var/lib/new/storage
  chainstore storage --data /var/lib/new/storage --masters http://127.0.0.1:8000 --cluster-token-file cluster.token`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return errors.New("name one file that was exported")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if cfg.Data == "" {
				return errors.New("name the folder that is to be made with --data")
			}
			cfg.File = args[0]
			bar := render.NewByteBar(cmd.ErrOrStderr(), "import")
			cfg.Progress = bar.Set
			end, err := roles.ImportStorage(cmd.Context(), cfg)
			bar.Done()
			if err != nil {
				return stopped(cmd, err, cfg.Data)
			}
			return tellMoved(cmd, &end, moved{}, asJSON, "imported to "+cfg.Data+"; no signature was checked")
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&cfg.Data, "data", "", "`folder` that is made: empty, or not there yet")
	flags.BoolVar(&cfg.Rehearsal, "rehearsal", false, "make a node of no group yet, for a rehearsal")
	flags.Int64Var(&cfg.SegmentBytes, "segment-bytes", 0,
		"`size` at which a new file of blocks is begun (default 64 MiB)")
	addJSON(cmd, &asJSON, "print what was imported as one JSON object")
	mustComplete(cmd.MarkFlagDirname("data"))
	mustComplete(cmd.RegisterFlagCompletionFunc("segment-bytes", cobra.NoFileCompletions))
	return cmd
}

// stopped says so where a command was interrupted.
func stopped(cmd *cobra.Command, err error, what string) error {
	if cmd.Context().Err() != nil {
		return fmt.Errorf("stopped: %s was not made", what)
	}
	return err
}

// exportText says which blocks of the folder are not signed, or not in the file; "" where all are.
func exportText(e *roles.Exported, checkpoints int) string {
	switch {
	case e.LeftOut > 0:
		return fmt.Sprintf("left out %s: the newest checkpoint does not cover them yet; export again later, or with"+
			" --unsigned-tail\n", render.Count(e.LeftOut, "block"))
	case checkpoints == 0:
		return "unsigned all of it: 'chainstore verify --file --key' needs a checkpoint; name a master with --url\n"
	case e.Covered < e.Height:
		return fmt.Sprintf("unsigned %s: 'chainstore verify --file --key' needs --allow-unsigned-tail\n",
			render.Count(e.Height-e.Covered, "block"))
	}
	return ""
}

func tellMoved(cmd *cobra.Command, end *export.End, m moved, asJSON bool, done string) error {
	if asJSON {
		m.Height, m.Size, m.Hash = end.Height, end.Size, end.Hash.String()
		return render.JSON(cmd.OutOrStdout(), m)
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "height   %d\nrecords  %d\nhead     %v\n%s\n", end.Height,
		end.Size-end.Height, end.Hash, done)
	return err
}
