//! The numbers of `nf_tables` (`linux/netfilter/nf_tables.h`, `nfnetlink.h`).

/// Kinds of message; the upper byte is the subsystem.
pub(super) mod kind {
    pub(in super::super) const BATCH_BEGIN: u16 = 16;
    pub(in super::super) const BATCH_END: u16 = 17;
    const SUBSYSTEM: u16 = 10 << 8;
    pub(in super::super) const NEW_TABLE: u16 = SUBSYSTEM;
    pub(in super::super) const GET_TABLE: u16 = SUBSYSTEM | 0x1;
    pub(in super::super) const DELETE_TABLE: u16 = SUBSYSTEM | 0x2;
    pub(in super::super) const NEW_CHAIN: u16 = SUBSYSTEM | 0x3;
    pub(in super::super) const GET_CHAIN: u16 = SUBSYSTEM | 0x4;
    pub(in super::super) const DELETE_CHAIN: u16 = SUBSYSTEM | 0x5;
    pub(in super::super) const NEW_RULE: u16 = SUBSYSTEM | 0x6;
    pub(in super::super) const GET_RULE: u16 = SUBSYSTEM | 0x7;
    pub(in super::super) const DELETE_RULE: u16 = SUBSYSTEM | 0x8;
    pub(in super::super) const NEW_SET: u16 = SUBSYSTEM | 0x9;
    pub(in super::super) const GET_SET: u16 = SUBSYSTEM | 0xa;
    pub(in super::super) const DELETE_SET: u16 = SUBSYSTEM | 0xb;
    pub(in super::super) const NEW_ELEMENT: u16 = SUBSYSTEM | 0xc;
    pub(in super::super) const GET_ELEMENT: u16 = SUBSYSTEM | 0xd;
    pub(in super::super) const DELETE_ELEMENT: u16 = SUBSYSTEM | 0xe;
    pub(in super::super) const GET_GENERATION: u16 = SUBSYSTEM | 0x10;
}

/// `NFTA_LIST_ELEM`
pub(super) const LIST_ITEM: u16 = 1;

/// `NFTA_TABLE_*`
pub(super) mod table {
    pub(in super::super) const NAME: u16 = 1;
    pub(in super::super) const FLAGS: u16 = 2;
    pub(in super::super) const USERDATA: u16 = 6;
}

/// `NFTA_CHAIN_*`
pub(super) mod chain {
    pub(in super::super) const TABLE: u16 = 1;
    pub(in super::super) const NAME: u16 = 3;
    pub(in super::super) const HOOK: u16 = 4;
    pub(in super::super) const POLICY: u16 = 5;
    pub(in super::super) const TYPE: u16 = 7;
    pub(in super::super) const HOOK_NUMBER: u16 = 1;
    pub(in super::super) const HOOK_PRIORITY: u16 = 2;
    pub(in super::super) const ACCEPT: u32 = 1;
}

/// `NFTA_RULE_*`
pub(super) mod rule {
    pub(in super::super) const TABLE: u16 = 1;
    pub(in super::super) const CHAIN: u16 = 2;
    pub(in super::super) const EXPRESSIONS: u16 = 4;
    pub(in super::super) const USERDATA: u16 = 7;
}

/// `NFTA_SET_*` and `NFT_SET_*`
pub(super) mod set {
    pub(in super::super) const TABLE: u16 = 1;
    pub(in super::super) const NAME: u16 = 2;
    pub(in super::super) const FLAGS: u16 = 3;
    pub(in super::super) const KEY_TYPE: u16 = 4;
    pub(in super::super) const KEY_LENGTH: u16 = 5;
    pub(in super::super) const DATA_TYPE: u16 = 6;
    pub(in super::super) const DATA_LENGTH: u16 = 7;
    pub(in super::super) const DESCRIPTION: u16 = 9;
    pub(in super::super) const ID: u16 = 10;
    pub(in super::super) const TIMEOUT: u16 = 11;
    pub(in super::super) const USERDATA: u16 = 13;
    pub(in super::super) const SIZE: u16 = 1;
    pub(in super::super) const DESCRIPTION_CONCAT: u16 = 2;
    pub(in super::super) const FIELD_LENGTH: u16 = 1;
    pub(in super::super) const IS_INTERVAL: u32 = 0x4;
    pub(in super::super) const IS_MAP: u32 = 0x8;
    pub(in super::super) const HAS_TIMEOUT: u32 = 0x10;
    pub(in super::super) const IS_DYNAMIC: u32 = 0x20;
    pub(in super::super) const IS_CONCAT: u32 = 0x80;
    pub(in super::super) const VERDICTS: u32 = 0xffff_ff00;
}

/// `NFTA_SET_ELEM_*` and `NFTA_SET_ELEM_LIST_*`
pub(super) mod element {
    pub(in super::super) const TABLE: u16 = 1;
    pub(in super::super) const SET: u16 = 2;
    pub(in super::super) const LIST: u16 = 3;
    pub(in super::super) const KEY: u16 = 1;
    pub(in super::super) const DATA: u16 = 2;
    pub(in super::super) const KEY_END: u16 = 10;
}

/// `NFTA_DATA_*` and `NFTA_VERDICT_*`
pub(super) mod data {
    pub(in super::super) const VALUE: u16 = 1;
    pub(in super::super) const VERDICT: u16 = 2;
    pub(in super::super) const CODE: u16 = 1;
    pub(in super::super) const CHAIN: u16 = 2;
    pub(in super::super) const DROP: i32 = 0;
    pub(in super::super) const ACCEPT: i32 = 1;
    pub(in super::super) const JUMP: i32 = -3;
    pub(in super::super) const GOTO: i32 = -4;
    pub(in super::super) const RETURN: i32 = -5;
}

/// `NFTA_GEN_ID`
pub(super) const GENERATION_ID: u16 = 1;
