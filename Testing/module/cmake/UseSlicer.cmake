# Stub macros. Like Slicer's they refuse unknown keywords and files that do not exist.

option(BUILD_TESTING "Configure the tests, too" ON)
enable_testing()

macro(slicerMacroBuildScriptedModule)
  cmake_parse_arguments(STUB "WITH_GENERIC_TESTS;WITH_SUBDIR;VERBOSE" "NAME" "SCRIPTS;RESOURCES" ${ARGN})
  if(STUB_UNPARSED_ARGUMENTS)
    message(FATAL_ERROR "Unknown keywords: ${STUB_UNPARSED_ARGUMENTS}")
  endif()
  if(NOT STUB_NAME)
    message(FATAL_ERROR "NAME is mandatory")
  endif()
  if(NOT STUB_SCRIPTS)
    message(FATAL_ERROR "${STUB_NAME}: SCRIPTS is mandatory")
  endif()
  foreach(file IN LISTS STUB_SCRIPTS STUB_RESOURCES)
    if(IS_ABSOLUTE "${file}" OR "${file}" MATCHES "\\.\\.")
      message(FATAL_ERROR "${STUB_NAME}: '${file}' is not below this folder")
    endif()
    if(NOT EXISTS "${CMAKE_CURRENT_SOURCE_DIR}/${file}" OR IS_DIRECTORY "${CMAKE_CURRENT_SOURCE_DIR}/${file}")
      message(FATAL_ERROR "${STUB_NAME}: there is no file '${file}'")
    endif()
    set(target "${CMAKE_BINARY_DIR}/${Slicer_QTSCRIPTEDMODULES_LIB_DIR}/${file}")
    if(EXISTS "${target}")
      message(FATAL_ERROR "${STUB_NAME}: two files would land at '${file}'")
    endif()
    configure_file("${file}" "${target}" COPYONLY)
  endforeach()
  install(
    DIRECTORY "${CMAKE_BINARY_DIR}/${Slicer_QTSCRIPTEDMODULES_LIB_DIR}/"
    DESTINATION "${Slicer_INSTALL_QTSCRIPTEDMODULES_LIB_DIR}"
    COMPONENT RuntimeLibraries
    )
  message(STATUS "stub: module ${STUB_NAME}")
endmacro()

function(slicer_add_python_unittest)
  cmake_parse_arguments(STUB "" "TESTNAME_PREFIX;SCRIPT" "SLICER_ARGS" ${ARGN})
  if(STUB_UNPARSED_ARGUMENTS OR NOT EXISTS "${CMAKE_CURRENT_SOURCE_DIR}/${STUB_SCRIPT}")
    message(FATAL_ERROR "slicer_add_python_unittest: '${STUB_SCRIPT}' ${STUB_UNPARSED_ARGUMENTS}")
  endif()
  message(STATUS "stub: test ${STUB_SCRIPT}")
endfunction()
