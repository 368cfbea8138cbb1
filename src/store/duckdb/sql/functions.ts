/**
 * Every function of the engine (1.5.6), looked at one by one. A call to anything that is not allowed here is refused, and a test
 * compares both lists with the engine's own, so that functions of a newer engine stay refused until somebody has looked at them.
 *
 * Allowed is what computes from its arguments alone and whose result is not larger than they are (guard.ts bounds the few that
 * join texts). Refused is what reads files, settings, the catalog or the environment, waits, keeps state (`setseed`, `nextval`), or
 * builds values of any size in one call (`repeat`, `lpad`, `list`, `string_agg`): such memory is not counted by the engine's limit.
 */
const words = (text: string): readonly string[] => text.split(/\s+/).filter((word) => word !== '')

/** In expressions. */
export const allowedScalars: ReadonlySet<string> = new Set(
  words(`
  % & * + - / // << <=> >> ^ ^@ | || ~ ~~ ~~* ~~~ !~~ !~~* ** @ ->>
  abs acos acosh add age asin asinh atan atan2 atanh bit_count cbrt ceil ceiling century char_length character_length concat concat_ws
  contains cos cosh cot date_diff date_part date_sub date_trunc datediff datepart datesub datetrunc day dayname dayofmonth dayofweek dayofyear
  decade degrees divide ends_with epoch epoch_ms epoch_ns epoch_us era even exp floor gamma gcd greatest greatest_common_divisor hash hour instr
  isfinite isinf isnan isodow isoyear json_extract json_extract_path json_extract_path_text json_extract_string json_type json_valid json_value
  julian last_day lcase lcm least least_common_multiple left len length lgamma ln log log10 log2 lower ltrim make_date make_time make_timestamp
  make_timestamp_ms make_timestamptz md5 microsecond millennium millisecond minute mod month monthname multiply nanosecond nextafter
  normalized_interval ord pi position pow power prefix quarter radians regexp_extract regexp_full_match regexp_matches regexp_replace replace
  reverse right round rtrim second sign signbit sin sinh sqrt starts_with strftime strlen strpos strptime substr substring subtract suffix tan
  tanh time_bucket timezone timezone_hour timezone_minute to_centuries to_days to_decades to_hours to_microseconds to_millennia to_milliseconds
  to_minutes to_months to_quarters to_seconds to_timestamp to_weeks to_years translate trim trunc try_strptime typeof ucase unicode upper week
  weekday weekofyear xor year yearweek list_value list_extract list_element array_extract ago date_add days_in_month fdiv fmod nullif round_even
  roundbankers split_part now today current_date get_current_timestamp get_current_time current_localtime current_localtimestamp
  transaction_timestamp`),
)

/** Over rows, and as windows. */
export const allowedAggregates: ReadonlySet<string> = new Set(
  words(`
  any_value approx_count_distinct approx_quantile arbitrary arg_max arg_max_null arg_max_nulls_last arg_min arg_min_null arg_min_nulls_last argmax
  argmin avg bit_and bit_or bit_xor bool_and bool_or corr count count_if count_star countif covar_pop covar_samp entropy favg first fsum
  kahan_sum kurtosis kurtosis_pop last mad max max_by mean median min min_by mode product quantile quantile_cont quantile_disc regr_avgx
  regr_avgy regr_count regr_intercept regr_r2 regr_slope regr_sxx regr_sxy regr_syy reservoir_quantile sem skewness stddev stddev_pop stddev_samp
  sum sumkahan var_pop var_samp variance geomean geometric_mean wavg weighted_avg
  cume_dist dense_rank fill first_value lag last_value lead nth_value ntile percent_rank rank rank_dense row_number`),
)

/** In FROM. */
export const allowedTableFunctions: ReadonlySet<string> = new Set(['generate_series', 'range', 'unnest'])

/** Looked at and refused: names that the engine has as well. */
export const refusedFunctions: ReadonlySet<string> = new Set(
  words(`
  !__postfix && <-> <@ @> add_parquet_key aggregate alias all_profiling_output apply approx_top_k array_agg array_aggr array_aggregate
  array_append array_apply array_cat array_concat array_contains array_cosine_distance array_cosine_similarity array_cross_product array_distance
  array_distinct array_dot_product array_filter array_grade_up array_has array_has_all array_has_any array_indexof array_inner_product
  array_intersect array_length array_negative_dot_product array_negative_inner_product array_pop_back array_pop_front array_position array_prepend
  array_push_back array_push_front array_reduce array_resize array_reverse array_reverse_sort array_select array_slice array_sort array_to_json
  array_to_string array_to_string_comma_default array_transform array_unique array_value array_where array_zip arrow_scan arrow_scan_dumb ascii
  bar base64 bin bit_length bit_position bitstring bitstring_agg can_cast_implicitly cardinality cast_to_type check_peg_parser checkpoint chr
  col_description collations combine constant_or_null copy_database create_sort_key current_catalog current_connection_id current_database
  current_query current_query_id current_role current_schema current_schemas current_setting current_transaction_id current_user currval
  damerau_levenshtein database_list database_size decode disable_checkpoint_on_shutdown disable_logging disable_object_cache disable_optimizer
  disable_peg_parser disable_print_progress_bar disable_profile disable_profiling disable_progress_bar disable_verification
  disable_verify_external disable_verify_fetch_row disable_verify_parallelism disable_verify_serializer duckdb_approx_database_count
  duckdb_columns duckdb_connection_count duckdb_constraints duckdb_coordinate_systems duckdb_databases duckdb_dependencies duckdb_extensions
  duckdb_external_file_cache duckdb_functions duckdb_indexes duckdb_keywords duckdb_log_contexts duckdb_logs duckdb_logs_parsed duckdb_memory
  duckdb_optimizers duckdb_prepared_statements duckdb_profiling_settings duckdb_schemas duckdb_secret_types duckdb_secrets duckdb_sequences
  duckdb_settings duckdb_table_sample duckdb_tables duckdb_temporary_files duckdb_types duckdb_variables duckdb_views editdist3 element_at
  enable_checkpoint_on_shutdown enable_logging enable_object_cache enable_optimizer enable_peg_parser enable_print_progress_bar enable_profile
  enable_profiling enable_progress_bar enable_verification encode enum_code enum_first enum_last enum_range enum_range_boundary equi_width_bins
  error extension_versions factorial filter finalize flatten force_checkpoint format formatReadableDecimalSize formatReadableSize format_bytes
  format_pg_type format_type from_base64 from_binary from_hex from_json from_json_strict functions gen_random_uuid generate_subscripts get_bit
  get_block_size get_type getvariable glob grade_up group_concat hamming has_any_column_privilege has_column_privilege has_database_privilege
  has_foreign_data_wrapper_privilege has_function_privilege has_language_privilege has_schema_privilege has_sequence_privilege
  has_server_privilege has_table_privilege has_tablespace_privilege hex histogram histogram_exact histogram_values icu_calendar_names icu_sort_key
  ilike_escape import_database in_search_path inet_client_addr inet_client_port inet_server_addr inet_server_port is_histogram_other_bin jaccard
  jaro_similarity jaro_winkler_similarity json json_array json_array_length json_contains json_deserialize_sql json_each
  json_execute_serialized_sql json_exists json_group_array json_group_object json_group_structure json_keys json_merge_patch json_object
  json_pretty json_quote json_serialize_plan json_serialize_sql json_structure json_transform json_transform_strict json_tree left_grapheme
  length_grapheme levenshtein like_escape list list_aggr list_aggregate list_any_value list_append list_apply list_approx_count_distinct list_avg
  list_bit_and list_bit_or list_bit_xor list_bool_and list_bool_or list_cat list_concat list_contains list_cosine_distance list_cosine_similarity
  list_count list_distance list_distinct list_dot_product list_entropy list_filter list_first list_grade_up list_has list_has_all list_has_any
  list_histogram list_indexof list_inner_product list_intersect list_kurtosis list_kurtosis_pop list_last list_mad list_max list_median list_min
  list_mode list_negative_dot_product list_negative_inner_product list_pack list_position list_prepend list_product list_reduce list_resize
  list_reverse list_reverse_sort list_select list_sem list_skewness list_slice list_sort list_stddev_pop list_stddev_samp list_string_agg list_sum
  list_transform list_unique list_var_pop list_var_samp list_where list_zip listagg lpad make_timestamp_ns make_type map map_concat map_contains
  map_contains_entry map_contains_value map_entries map_extract map_extract_value map_from_entries map_keys map_to_pg_oid map_values md5_number
  md5_number_lower md5_number_upper metadata_info mismatches nextval nfc_normalize not_ilike_escape not_like_escape obj_description octet_length
  parquet_bloom_probe parquet_file_metadata parquet_full_metadata parquet_kv_metadata parquet_metadata parquet_scan parquet_schema parse_dirname
  parse_dirpath parse_duckdb_log_message parse_filename parse_formatted_bytes parse_path pg_collation_is_visible pg_conf_load_time
  pg_conversion_is_visible pg_function_is_visible pg_get_constraintdef pg_get_expr pg_get_viewdef pg_has_role pg_is_other_temp_schema
  pg_my_temp_schema pg_opclass_is_visible pg_operator_is_visible pg_opfamily_is_visible pg_postmaster_start_time pg_size_pretty pg_sleep
  pg_table_is_visible pg_timezone_names pg_ts_config_is_visible pg_ts_dict_is_visible pg_ts_parser_is_visible pg_ts_template_is_visible
  pg_type_is_visible pg_typeof platform pragma_collations pragma_database_size pragma_metadata_info pragma_platform pragma_show
  pragma_storage_info pragma_table_info pragma_user_agent pragma_version printf query query_table random read_blob read_csv read_csv_auto
  read_duckdb read_json read_json_auto read_json_objects read_json_objects_auto read_ndjson read_ndjson_auto read_ndjson_objects read_parquet
  read_text reduce regexp_escape regexp_extract_all regexp_split_to_array regexp_split_to_table remap_struct repeat repeat_row replace_type
  right_grapheme row row_to_json rpad seq_scan session_user set_bit setseed sha1 sha256 shobj_description show show_databases show_tables
  show_tables_expanded sleep_ms sniff_csv split sql_auto_complete st_asbinary st_astext st_aswkb st_aswkt st_crs st_geomfromwkb
  st_intersects_extent st_setcrs stats storage_info str_split str_split_regex string_agg string_split string_split_regex string_to_array
  strip_accents struct_concat struct_contains struct_extract struct_extract_at struct_has struct_indexof struct_insert struct_keys struct_pack
  struct_position struct_update struct_values substring_grapheme sum_no_overflow summary switch table_info test_all_types test_vector_types
  timetz_byte_comparable to_base to_base64 to_binary to_hex to_json truncate_duckdb_logs txid_current unbin unhex union_extract union_tag
  union_value unpivot_list url_decode url_encode user user_agent uuid uuid_extract_timestamp uuid_extract_version uuidv4 uuidv7
  variant_bytes_to_variant variant_extract variant_normalize variant_to_parquet_variant variant_typeof vector_type verify_external
  verify_fetch_row verify_parallelism verify_serializer version which_secret write_log`),
)
