package offline

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/chainstore/chainstore/client"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/cli"
	"github.com/chainstore/chainstore/cmd/chainstore/internal/render"
	"github.com/chainstore/chainstore/internal/roles"
	"github.com/chainstore/chainstore/verify/export"
)

// transferResult is the JSON output of export and import.
type transferResult struct {
	Height      uint64 `json:"height"`
	Size        uint64 `json:"size"`
	Hash        string `json:"hash"`
	Checkpoints int    `json:"checkpoints"`
	Keys        int    `json:"keys"`
	// For an export: the blocks that a checkpoint in the file covers, and the blocks that were left out because no
	// checkpoint covers them.
	Covered *uint64 `json:"covered_height,omitempty"`
	LeftOut *uint64 `json:"left_out,omitempty"`
}

// NewExport writes a chain into one file.
func NewExport() *cobra.Command {
	var cfg roles.ExportConfig
	var url, tokenFile, ca string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "export --data STORAGE_DIR --out FILE",
		Short: "Write a storage node's whole chain into one file",
		Long: `Write the whole chain of a storage node's data folder into one file, to archive it or to move it.
'chainstore verify --file' checks the file, and 'chainstore import' makes the folder of a storage node from it. The
node may be running or not. Each block is verified, and if one is damaged or lost, no file is written.

With --url the file also has the log's newest signed checkpoint and its verifier keys, so that a verifier that knows
the key can authenticate the chain. The file ends at that checkpoint: newer blocks are left out, the command prints
their number, and the next export has them. With --unsigned-tail the file has these blocks too, and 'chainstore verify
--file --key' then needs --allow-unsigned-tail.

Without --url the file has the whole chain and no checkpoint. Its origin cannot be verified, and 'chainstore verify
--file --key' refuses it. The file has the payloads of private projects in plain text, but no tokens or names of
projects: protect it like the disk of a storage node.`,
		Example: `  chainstore export --data /var/lib/chainstore/storage --out 2026-06.export \
    --url http://127.0.0.1:8000
  chainstore verify --file 2026-06.export --key log.vkey`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cfg.Data == "" || cfg.Out == "" {
				return errors.New("name the data folder of a storage node with --data and the new file with --out")
			}
			if url != "" {
				token, err := cli.ReadSecret(tokenFile, cli.EnvToken)
				if err != nil {
					return err
				}
				if err := addCheckpoint(cmd.Context(), &cfg, url, token, ca); err != nil {
					return err
				}
			}
			bar := render.NewBar(cmd.ErrOrStderr(), "export", "")
			cfg.Progress = bar.Set
			end, err := roles.ExportStorage(cmd.Context(), cfg)
			bar.Done()
			if err != nil {
				return stopped(cmd, err, cfg.Out)
			}
			n := len(cfg.Checkpoints)
			m := transferResult{Checkpoints: n, Keys: len(cfg.Keys), Covered: &end.Covered, LeftOut: &end.LeftOut}
			return printTransfer(cmd, &end.End, m, asJSON, exportText(&end, n)+"exported to "+cfg.Out)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&cfg.Data, "data", "", "data `folder` of a storage node")
	flags.StringVar(&cfg.Out, "out", "", "`file` to write; it must not exist")
	flags.StringVar(&url, "url", "", "`URL` of a master: include its newest checkpoint and the log's keys")
	flags.BoolVar(&cfg.UnsignedTail, "unsigned-tail", false,
		"with --url: also export the blocks after the newest checkpoint")
	flags.StringVar(&tokenFile, "token-file", "", "with --url, if the log is private: `file` with a token (or "+
		cli.EnvToken+")")
	cli.AddCA(cmd, &ca)
	addAtRestKeys(cmd, &cfg.AtRestKeys, atRestUsage+"; the export is not encrypted")
	cli.AddJSON(cmd, &asJSON, "print what was exported as one JSON object")
	cli.MustComplete(cmd.MarkFlagDirname("data"))
	cli.NoFiles(cmd, "url")
	return cmd
}

// addCheckpoint adds the log's newest checkpoint and its keys, the retired ones too. It verifies neither.
func addCheckpoint(ctx context.Context, cfg *roles.ExportConfig, url, token, ca string) error {
	trust, err := cli.TLSConfig(ca)
	if err != nil {
		return err
	}
	c, err := client.New(client.Config{Masters: []string{url}, Token: token, TLS: trust})
	if err != nil {
		return err
	}
	defer c.CloseIdle()
	checkpoint, err := c.Checkpoint(ctx)
	if err != nil {
		return err
	}
	log, err := c.Log(ctx)
	for _, k := range log.Keys {
		cfg.Keys = append(cfg.Keys, k.VerifierKey)
	}
	cfg.Checkpoints = []string{string(checkpoint)}
	return err
}

// NewImport makes a storage node's folder from an export.
func NewImport() *cobra.Command {
	var cfg roles.ImportConfig
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "import FILE --data NEW_STORAGE_DIR",
		Short: "Make a storage node's folder from an export",
		Long: `Make the data folder of a storage node from a file that 'chainstore export' has written. The folder
must be empty or not exist. Each block is verified and stored like a block that the masters send. The folder is
created completely or not at all.

No signature is checked. First check with 'chainstore verify --file FILE --key KEY' that the log's key has signed the
chain, because a group that is created from it signs all of it.

Start a storage node on the folder as usual, and create a group from it with 'chainstore master recover --from-storage
URL'. That is the exported group in a later epoch. A group that still exists accepts the node as a new one. With
--rehearsal the node has no group yet: it joins the first group that it registers with, for instance one made by
'chainstore master recover --rehearsal'.`,
		Example: `  chainstore import 2026-06.export --data /var/lib/new/storage
  chainstore storage --data /var/lib/new/storage --masters http://127.0.0.1:8000 --cluster-token-file cluster.token`,
		Args: cli.ExactArgs("one file that was exported"),
		RunE: func(cmd *cobra.Command, args []string) error {
			if cfg.Data == "" {
				return errors.New("name the folder to create with --data")
			}
			cfg.File = args[0]
			bar := render.NewBar(cmd.ErrOrStderr(), "import", "")
			cfg.Progress = bar.Set
			end, err := roles.ImportStorage(cmd.Context(), cfg)
			bar.Done()
			if err != nil {
				return stopped(cmd, err, cfg.Data)
			}
			done := "imported to " + cfg.Data + "; no signature was checked"
			return printTransfer(cmd, &end, transferResult{}, asJSON, done)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&cfg.Data, "data", "", "`folder` to create: empty or not existing")
	flags.BoolVar(&cfg.Rehearsal, "rehearsal", false, "make a node without a group, for a rehearsal")
	flags.Int64Var(&cfg.SegmentBytes, "segment-bytes", 0,
		"`size` at which a new segment file is started (default 64 MiB)")
	addAtRestKeys(cmd, &cfg.AtRestKeys, "`file` with keys: encrypt the folder with the first")
	cli.AddJSON(cmd, &asJSON, "print what was imported as one JSON object")
	cli.MustComplete(cmd.MarkFlagDirname("data"))
	cli.NoFiles(cmd, "segment-bytes")
	return cmd
}

// stopped replaces the error of an interrupted command.
func stopped(cmd *cobra.Command, err error, what string) error {
	if cmd.Context().Err() != nil {
		return fmt.Errorf("stopped: %s was not made", what)
	}
	return err
}

// exportText names the blocks that are not signed or not in the file, "" for none.
func exportText(e *roles.Exported, checkpoints int) string {
	switch {
	case e.LeftOut > 0:
		return fmt.Sprintf("left out %s: the newest checkpoint does not cover them yet; export again later, or "+
			"with --unsigned-tail\n", render.Count(e.LeftOut, "block"))
	case checkpoints == 0:
		return "unsigned all blocks: 'chainstore verify --file --key' needs a checkpoint; name a master with --url\n"
	case e.Covered < e.Height:
		return fmt.Sprintf("unsigned %s: 'chainstore verify --file --key' needs --allow-unsigned-tail\n",
			render.Count(e.Height-e.Covered, "block"))
	}
	return ""
}

func printTransfer(cmd *cobra.Command, end *export.End, m transferResult, asJSON bool, done string) error {
	m.Height, m.Size, m.Hash = end.Height, end.Size, end.Hash.String()
	text := fmt.Sprintf("height   %d\nrecords  %d\nhead     %v\n%s\n", end.Height, end.Size-end.Height, end.Hash, done)
	return render.Print(cmd.OutOrStdout(), asJSON, m, text)
}
