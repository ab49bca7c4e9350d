"""Members grouped into one filesystem: which device is which leg, what is missing, which subvolumes there are.

Source: fs/btrfs/volumes.c:btrfs_open_devices, open_fs_devices, device_list_add, v6.12.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from fsdrivers.block import BlockDevice
from fsdrivers.btrfs import layout
from fsdrivers.btrfs import superblock as superblocks
from fsdrivers.btrfs.filesystem import BtrfsFilesystem, Node, subvolume
from fsdrivers.btrfs.leg import Leg
from fsdrivers.btrfs.roots import MAX_SUBVOLUMES, RootItem
from fsdrivers.btrfs.store import Store, opened
from fsdrivers.btrfs.superblock import Superblock, uuid_text
from fsdrivers.errors import Ambiguous, FsError, NotFound, NotThisFs
from fsdrivers.pool import Member, Pool, Root, Slot
from fsdrivers.redundancy import Health

if TYPE_CHECKING:
    from fsdrivers.damage import Damage, Totals

KIND = "btrfs"


def probe(device: BlockDevice) -> Member | None:
    """The membership that the superblock on ``device`` claims; raises Corrupt, Unsupported, ReadError."""
    found = superblocks.find(device)
    return Member(device, KIND, found.uuid, found, found.seeding) if found else None


def assemble(members: list[Member]) -> BtrfsPool:
    """The filesystem that ``members`` with the uuid of the first are part of; the others are seeds it may be built on.

    What is wrong with it shows in open().
    """
    return BtrfsPool(members)


class BtrfsPool(Pool):
    """One btrfs filesystem.  ``health`` collects what reading it had to heal and what the user should know."""

    kind = KIND

    def __init__(self, members: list[Member]) -> None:
        self.health = Health()
        self._trouble: FsError | None = None
        self._left_out: list[Slot] = []
        uuid = members[0].pool_uuid
        self._legs = self._choose(self._without_targets([one for one in members if one.pool_uuid == uuid]))
        self.superblock = max((leg.superblock for leg in self._legs.values()), key=lambda block: block.generation)
        self.name, self.uuid = self.superblock.label, self.superblock.uuid
        self._mark_stale()
        seeds = [one for one in members if one.pool_uuid != uuid]
        if seeds:
            # Offered, not more: which of them belong here is known when the chunk tree was read.
            self._legs = self._choose(seeds, quiet=True) | self._legs
        self._store: Store | None = None  # as of the last commit
        self._replayed: Store | None = None
        try:
            self._store = opened(self.name or self.uuid, self.superblock, self._legs, self.health)
        except FsError as error:
            self._trouble = self._trouble or error
        if seeds:
            self._keep_own_seeds()
        for note in superblocks.notes(self.superblock):
            self.health.note(note)
        self.slots = self._slots()

    @property
    def legs(self) -> dict[bytes, Leg]:
        """The devices that are there, by device uuid."""
        return self._legs

    def roots(self) -> list[Root]:
        store = self._opened()
        default = store.roots.default()
        paths: dict[int, str] = {}
        found = store.roots.subvolumes()
        if len(found) >= MAX_SUBVOLUMES:
            self.health.note(f"of the subvolumes only the first {MAX_SUBVOLUMES} are listed")
        for item in found:
            try:
                paths[item.id] = store.roots.path(item.id) or "/"
            except FsError as error:
                self.health.note(f"subvolume {item.id} cannot be named: {error}")
                paths[item.id] = f"id:{item.id}"
        roots = [self._root(store, item, paths, default) for item in found]
        return sorted(roots, key=lambda root: not root.default)

    def open(self, root: str | None = None) -> BtrfsFilesystem:
        store = self._opened()
        if root is None:
            return subvolume(store, store.roots.default())
        if number := re.fullmatch(r"id:(\d{1,20})", root):
            try:
                return subvolume(store, int(number[1]))
            except NotFound:
                raise NotFound(root) from None
        top = subvolume(store, layout.FS_TREE)
        node = top.resolve(root, follow=False)
        item = store.roots.item(node.tree) if isinstance(node, Node) else None
        if not isinstance(node, Node) or node.stub or item is None or node.inode != item.directory:
            raise NotFound(root)  # a plain directory: the kernel's subvol= refuses it too
        return subvolume(store, node.tree)

    def strangers(self, members: list[Member]) -> list[Member]:
        """See Pool: who was not there at the newest commit, or has another one of the same generation."""
        last = _commit(self.superblock)
        using = {slot.device for slot in self.slots if slot.state == "online"}
        first = next(leg.device for leg in self._legs.values() if leg.superblock is self.superblock)
        newest = {one.label.dev_uuid: one.label for one in members
                  if isinstance(one.label, Superblock) and one.device.name in using}  # fmt: skip
        found = []
        for member in members:
            label = member.label
            if member.pool_uuid != self.uuid or not isinstance(label, Superblock) or member.device is first:
                continue
            if member.device.name in using:
                # Its device uuid is in a list that the newest superblock leads to, which anybody may write.
                if _commit(label) != last:
                    found.append(member)
                continue
            same = newest.get(label.dev_uuid)  # a second path to one disk?
            if same is None or same.raw[layout.CSUM_FIELD :] != label.raw[layout.CSUM_FIELD :]:
                found.append(member)
        return found

    def verify(self, all_copies: bool, totals: Totals) -> Iterator[Damage]:
        from fsdrivers.btrfs.scrub import Scrub

        return Scrub(self._opened(), all_copies, totals).run()

    def _opened(self) -> Store:
        if self._trouble is not None or self._store is None:
            raise self._trouble or NotThisFs(self.uuid)
        if not self._store.superblock.log_root:
            return self._store
        if not self.use_log:
            self.health.note(
                "the filesystem was not unmounted: what programs had synced after the last commit "
                f"(generation {self.superblock.generation}) is in its log and not shown"
            )
            return self._store
        if self._replayed is None:
            self._replayed = self._store.replayed()
        return self._replayed

    def _root(self, store: Store, item: RootItem, paths: dict[int, str], default: int) -> Root:
        place = store.roots.place(item.id)
        return Root(
            paths[item.id],
            item.id,
            item.uuid,
            item.id == default,
            item.readonly,
            item.created,
            paths.get(place.parent, "") if place else "",
            item.generation,
            item.parent_uuid,
        )

    def _without_targets(self, members: list[Member]) -> list[Member]:
        """``members`` but for the targets of a replace under way: until it is finished, nobody reads from those."""
        staying = []
        for member in members:
            label = member.label
            if isinstance(label, Superblock) and label.devid == layout.DEV_REPLACE:
                self.health.note(
                    f"{member.device.name} is the target of a replace that was not finished; it is left out"
                )
                self._left_out.append(Slot(0, uuid_text(label.dev_uuid), member.device.name, "replacing"))
            else:
                staying.append(member)
        if not staying:
            raise NotThisFs(f"btrfs {members[0].pool_uuid}: nothing but the target of a replace that was not finished")
        return staying

    def _keep_own_seeds(self) -> None:
        """Forget the seeds that the chunk tree does not know."""
        known = {device.uuid for device in self._store.devices} if self._store else set()
        for uuid, leg in list(self._legs.items()):
            if leg.superblock.fsid == self.superblock.fsid:
                continue
            if uuid not in known:
                del self._legs[uuid]
            elif leg.superblock.uuid not in self.seeds:
                self.seeds += (leg.superblock.uuid,)

    def _choose(self, members: list[Member], quiet: bool = False) -> dict[bytes, Leg]:
        """One leg for each device uuid: of several that claim the same, the newest.

        Of seeds (``quiet``) it is the first, which is trusted most: nothing ever makes a seed newer.
        """
        claims: dict[bytes, list[tuple[BlockDevice, Superblock]]] = {}
        for member in members:
            if isinstance(member.label, Superblock):
                claims.setdefault(member.label.dev_uuid, []).append((member.device, member.label))
        legs = {}
        for uuid, rivals in claims.items():
            if not quiet:
                rivals.sort(key=lambda rival: -rival[1].generation)
            device, block = rivals[0]
            for other, label in () if quiet else rivals[1:]:
                newest = label.generation == block.generation
                if newest and label.raw[layout.CSUM_FIELD :] != block.raw[layout.CSUM_FIELD :]:
                    self._trouble = Ambiguous(
                        f"btrfs {block.uuid}: {device.name} and {other.name} both claim to be devid {block.devid} "
                        f"in generation {block.generation}, with different contents; detach one"
                    )
                why = "of the same generation" if newest else f"older (generation {label.generation})"
                self.health.note(
                    f"{other.name} is a copy of devid {block.devid} ({device.name}), {why}; it is left out"
                )
                self._left_out.append(Slot(label.devid, uuid_text(uuid), other.name, "duplicate"))
            legs[uuid] = Leg(device, block)
        return legs

    def _mark_stale(self) -> None:
        """Find the legs that missed the newest transaction: they are asked last."""
        newest = self.superblock.generation
        for uuid, leg in self._legs.items():
            if leg.superblock.generation < newest:
                self._legs[uuid] = Leg(leg.device, leg.superblock, stale=True)
                self.health.note(
                    f"{leg.device.name} missed writes: its generation is {leg.superblock.generation}, "
                    f"the newest {newest}; it is read only where it can be proven good"
                )

    def _slots(self) -> tuple[Slot, ...]:
        """All devices that the chunk tree knows; when it cannot be read, those present and a number of unknown ones."""
        slots = []
        known = self._store.devices if self._store else []
        for device in known:
            leg = self._legs.get(device.uuid)
            slots.append(_slot(device.devid, device.uuid, leg))
        listed = {device.uuid for device in known}
        for uuid, leg in self._legs.items():
            if not known:
                slots.append(_slot(leg.superblock.devid, uuid, leg))
            elif uuid not in listed:
                self.health.note(f"{leg.device.name} is no member of the filesystem any more; it is left out")
                self._left_out.append(Slot(leg.superblock.devid, uuid_text(uuid), leg.device.name, "removed"))
        if not known:
            unknown = max(0, self.superblock.num_devices - len(slots))
            slots += [Slot(0, "", None, "missing")] * min(unknown, 1024)
        return tuple(sorted(slots, key=lambda slot: slot.id)) + tuple(self._left_out)


def _commit(block: Superblock) -> tuple[int, ...]:
    """What the superblocks of all devices have in common after a commit; a log is added to one after the other."""
    return block.generation, block.root, block.chunk_root, block.chunk_root_generation, block.num_devices


def _slot(devid: int, uuid: bytes, leg: Leg | None) -> Slot:
    if leg is None:
        return Slot(devid, uuid_text(uuid), None, "missing")
    return Slot(devid, uuid_text(uuid), leg.device.name, "stale" if leg.stale else "online")
